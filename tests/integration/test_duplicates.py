"""Duplicates on the running system: found through the index, verified, grouped, judged, merged."""

import csv
import io
import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from PIL import Image, ImageOps

from services.evaluator.app import app, make_duplicate_search
from services.evaluator.duplicate_pairs import Candidate, ComparedPairs
from shared.duplicates.store import Duplicates
from shared.errors import NotFound
from shared.messaging.worker import connect_worker
from shared.state import Jobs, connect
from shared.state.job_ids import new_job_id
from shared.storage import evaluation_layout, layout
from shared.storage.object_store import ObjectStore
from tests.support.eventually import eventually
from tests.support.pictures import detailed
from tests.support.stack import Stack
from tests.support.web_client import Client

NAME = "attic"
GROUPS = "GET /collections/{name}/duplicates/reports/{id}"
JUDGE = "POST /collections/{name}/duplicates/verdicts"
MERGE = "POST /collections/{name}/duplicates/merge"
IMAGE = "GET /collections/{name}/images/{id}"
EDIT = "PATCH /collections/{name}/images/{id}"


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def copies(seed: int) -> dict[str, bytes]:
    """Return the files of a picture and of copies of it, by their names."""
    image = detailed(seed)
    data = encoded(image, quality=90)
    return {
        "first.jpg": data,
        "same.png": encoded(Image.open(io.BytesIO(data)), "PNG"),
        "saved.jpg": encoded(image, quality=50),
        "half.jpg": encoded(image.resize((240, 180)), quality=90),
        "mirrored.jpg": encoded(ImageOps.mirror(image), quality=90),
        "cropped.jpg": encoded(image.crop((60, 20, 480, 340)), quality=90),
    }


def id_of(data: bytes) -> int:
    return layout.image_id(layout.digest_of(data))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return copies(81_000)


@pytest.fixture(scope="module")
def found(stack: Stack, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a search finds among a group of six, a pair, and twelve pictures that are alone."""
    folder = tmp_path_factory.mktemp("attic")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    pair = copies(82_000)
    for name in ("first.jpg", "half.jpg"):
        (folder / f"other-{name}").write_bytes(pair[name])
    for number in range(12):
        (folder / f"alone-{number}.jpg").write_bytes(encoded(detailed(83_000 + number), quality=90))
    stack.artseek("ingest", str(folder), "--collection", NAME)
    answer: dict[str, Any] = json.loads(stack.artseek("duplicates", "--collection", NAME, "--json"))
    return answer


@pytest.fixture(scope="module")
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.fixture
def duplicates(stack: Stack) -> Duplicates:
    return Duplicates(ObjectStore.from_settings(stack.settings))


def page(client: Client, found: dict[str, Any], **query: object) -> dict[str, Any]:
    answer: dict[str, Any] = client.call(GROUPS, name=NAME, id=found["report"]["id"], query=query).json
    return answer


def judge(client: Client, a: int, b: int, verdict: str | None) -> Any:
    return client.call(JUDGE, name=NAME, value={"a": a, "b": b, "verdict": verdict}).json


def test_the_groups_are_those_that_are_there(found: dict[str, Any], files: dict[str, bytes]) -> None:
    names = [{image["name"] for image in group["images"]} for group in found["groups"]]
    assert names == [set(files), {"other-first.jpg", "other-half.jpg"}]
    assert found["report"]["images"] == 20
    pairs = len(list(combinations(files, 2))) + 1
    assert found["report"]["pairs"] == pairs
    assert found["share"] | {"next": None} == {
        "pairs": pairs,
        "judged": 0,
        "same": 0,
        "share": None,
        "low": None,
        "high": None,
        "confidence": 0.95,
        "next": None,
    }


def test_each_copy_says_how_it_differs_and_the_best_is_kept_for_a_reason(found: dict[str, Any]) -> None:
    group = found["groups"][0]
    kept = [image["name"] for image in group["images"] if image["keep"]]
    assert kept == ["same.png"]
    assert group["reason"] == "as many pixels, and the better format: image/png"
    ways = {image["name"]: image["pair"]["ways"] for image in group["images"] if image["pair"]}
    assert ways == {
        "first.jpg": ["identical"],
        "saved.jpg": ["re-encoded"],
        "half.jpg": ["resized"],
        "mirrored.jpg": ["mirrored"],
        "cropped.jpg": ["cropped"],
    }
    assert found["groups"][1]["reason"] == "most pixels: 480 × 360"


def test_the_command_prints_a_table_and_groups(stack: Stack, found: dict[str, Any]) -> None:
    printed = stack.artseek("duplicates", "--collection", NAME, "--last", "--csv")
    rows = list(csv.DictReader(io.StringIO(printed.removeprefix("\ufeff"))))
    assert [row["group"] for row in rows] == ["1"] * 6 + ["2"] * 2
    assert [int(row["id"]) for row in rows] == [image["id"] for group in found["groups"] for image in group["images"]]
    text = stack.artseek("duplicates", "--collection", NAME, "--last")
    assert f"1. keep {found['groups'][0]['keep']}: as many pixels" in text
    assert "mirrored" in text


def test_a_search_whose_worker_dies_goes_on_where_it_was(
    stack: Stack, found: dict[str, Any], duplicates: Duplicates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.evaluator.duplicate_search._COMPARED", 20)
    job = new_job_id()
    Jobs(connect(stack.settings.index_url.get_secret_value())).create(job, NAME, kind="duplicates")
    compared: list[tuple[int, int]] = []

    def attempt(deadly: int | None) -> None:
        search = make_duplicate_search(stack.settings, connect_worker(stack.settings, app))
        compare = search._comparer.compare

        def counting(collection: str, candidates: Sequence[Candidate]) -> ComparedPairs:
            if len(compared) == deadly:
                raise KeyboardInterrupt
            compared.extend((candidate.a, candidate.b) for candidate in candidates)
            return compare(collection, candidates)

        monkeypatch.setattr(search._comparer, "compare", counting)
        search.search(job=job, collection=NAME)

    with pytest.raises(KeyboardInterrupt):
        attempt(40)
    attempt(None)
    assert len(compared) == len(set(compared)) == found["report"]["compared"]
    assert duplicates.get(NAME, job).pairs == duplicates.get(NAME, found["report"]["id"]).pairs
    assert not list(ObjectStore.from_settings(stack.settings).list(evaluation_layout.duplicating_prefix(job)))


def test_a_search_that_is_cancelled_leaves_nothing(
    stack: Stack, found: dict[str, Any], duplicates: Duplicates, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found
    jobs, job = Jobs(connect(stack.settings.index_url.get_secret_value())), new_job_id()
    jobs.create(job, NAME, kind="duplicates")
    search = make_duplicate_search(stack.settings, connect_worker(stack.settings, app))
    compare = search._comparer.compare

    def cancelling(collection: str, candidates: Sequence[Candidate]) -> ComparedPairs:
        jobs.cancel(job)
        return compare(collection, candidates)

    monkeypatch.setattr(search._comparer, "compare", cancelling)
    search.search(job=job, collection=NAME)
    assert jobs.get(job).state == "cancelled"
    assert job not in duplicates.ids(NAME)
    assert not list(ObjectStore.from_settings(stack.settings).list(evaluation_layout.duplicating_prefix(job)))


def test_a_pair_that_is_judged_to_be_different_is_not_shown_again(
    found: dict[str, Any], client: Client, stack: Stack
) -> None:
    group = found["groups"][1]
    a, b = sorted(image["id"] for image in group["images"])
    assert judge(client, b, a, "different") == {"a": a, "b": b, "verdict": "different"}
    assert len(json.loads(stack.artseek("duplicates", "--collection", NAME, "--json"))["groups"]) == 1  # a new search
    judge(client, a, b, None)
    assert page(client, found, limit=1, offset=1)["groups"] == [group]


def test_the_share_comes_from_pairs_that_somebody_judges(found: dict[str, Any], client: Client) -> None:
    judged = []
    for count in range(1, 4):
        following = page(client, found)["share"]["next"]
        judged.append(following)
        judge(client, following["a"], following["b"], "same")
        share = page(client, found)["share"]
        assert (share["judged"], share["same"], share["share"], share["high"]) == (count, count, 1.0, 1.0)
    assert 0.25 < share["low"] < 0.6  # 3 of 16 were judged, all of them copies
    for pair in judged:
        judge(client, pair["a"], pair["b"], None)
    assert page(client, found)["share"]["judged"] == 0


def test_merging_gives_the_kept_image_all_that_the_others_have_and_deletes_nothing_by_itself(
    found: dict[str, Any], client: Client
) -> None:
    keep, other = (image["id"] for image in found["groups"][1]["images"])
    client.call(EDIT, name=NAME, id=keep, value={"fields": {"creator": ["Ann"]}, "labels": ["boat"]})
    given = {"fields": {"creator": ["Ann", "Bob"], "title": ["Sea"]}, "labels": ["sea"]}
    client.call(EDIT, name=NAME, id=other, value=given)
    eventually(
        lambda: [client.call(IMAGE, name=NAME, id=one).json["labels"] for one in (keep, other)],
        until=lambda labels: bool(labels == [["boat"], ["sea"]]),
    )
    answer = client.call(MERGE, name=NAME, value={"keep": keep, "others": [other]}).json
    assert (answer["labels"], answer["fields"], answer["job"]) == (["sea"], ["creator", "title"], None)
    assert answer["paths"] == ["other-half.jpg"]
    kept = eventually(
        lambda: client.call(IMAGE, name=NAME, id=keep).json, until=lambda seen: bool(len(seen["labels"]) == 2)
    )
    assert [value["value"] for value in kept["fields"]["creator"]] == ["Ann", "Bob"]
    assert [value["value"] for value in kept["fields"]["title"]] == ["Sea"]
    assert client.call(IMAGE, name=NAME, id=other).status == 200
    eventually(
        lambda: page(client, found)["groups"][1]["images"][0]["paths"],
        until=lambda paths: bool(paths == ["other-first.jpg", "other-half.jpg"]),
    )
    again = client.call(MERGE, name=NAME, value={"keep": keep, "others": [other], "trash": True})
    assert (again.status, again.json["labels"], again.json["fields"], again.json["paths"]) == (202, [], [], [])
    client.finished(again.json["job"])
    eventually(lambda: page(client, found)["groups"], until=lambda groups: len(groups) == 1)
    refused = client.call(MERGE, name=NAME, value={"keep": keep, "others": [keep]})
    assert (refused.status, "cannot be merged into itself" in refused.json["detail"]) == (422, True)


def test_what_is_purged_leaves_reports_and_verdicts(
    stack: Stack, found: dict[str, Any], duplicates: Duplicates, files: dict[str, bytes]
) -> None:
    gone, other = id_of(files["cropped.jpg"]), id_of(files["half.jpg"])
    duplicates.judge(NAME, (min(gone, other), max(gone, other)), "same", by="a test")
    stack.artseek("delete", str(gone), "--collection", NAME, "--purge")
    report = duplicates.get(NAME, duplicates.ids(NAME)[0])
    assert all(gone not in pair.ids for pair in report.pairs)
    assert report.pairs
    assert not duplicates.verdicts(NAME)
    assert found


def test_duplicates_go_with_a_collection_that_is_renamed_and_leave_with_one_that_is_dropped(
    stack: Stack, found: dict[str, Any], duplicates: Duplicates
) -> None:
    assert found
    ids = duplicates.ids(NAME)
    stack.artseek("collections", "rename", NAME, "loft")
    assert (duplicates.ids(NAME), duplicates.ids("loft")) == ([], ids)
    stack.artseek("collections", "delete", "loft", "--yes")
    assert duplicates.ids("loft") == []
    with pytest.raises(NotFound):
        duplicates.get("loft", ids[0])
