"""Records where people meet them: the API, the commands, searches; each answer is held against the document."""

import csv
import html
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cli.clients import connect_system
from shared.errors import Invalid
from shared.messaging import vector_intake
from shared.messaging.task_queue import TaskQueue
from shared.messaging.vector_intake import DeclaredModel, VectorIntake
from shared.records.vector_files import read_embeddings
from shared.storage.layout import image_id
from shared.storage.object_store import ObjectStore
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

Images = list[dict[str, Any]]


@pytest.fixture(scope="module")
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.fixture(scope="module")
def images(client: Client, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """Six images of a collection of their own, with records from a CSV file."""
    folder = tmp_path_factory.mktemp("works")
    files = {f"w{number}.jpg": picture(900 + number) for number in range(6)}
    exif = Image.Exif()
    exif[0x010E] = "From the camera"
    tagged = io.BytesIO()
    Image.open(io.BytesIO(files["w4.jpg"])).save(tagged, "JPEG", exif=exif)
    files["w4.jpg"] = tagged.getvalue()
    fields: list[tuple[str, Any]] = [("images", file) for file in files.items()]
    job = client.call("POST /collections/{name}/images", name="works", fields=[*fields, ("label", "work")]).json["job"]
    eventually(lambda: client.call("GET /jobs/{id}", id=job).json["state"] == "done")
    eventually(lambda: len(listed(client)) == 6)
    table = folder / "works.csv"
    rows = [
        ["Filename", "Title", "Creator", "Date", "Object Number", "Height:number", "", "Labels"],
        ["w0.jpg", "Mühle am Fluss", "Ann Ax|Ben Box", "c. 1652", "A-1", "30", "x", ""],
        ["w1.jpg", "=cmd()", "Ann Ax", "1650-1660", "A-2", "12.5", "", "mill|river"],
        ["w2.jpg", "The sea", "Ben Box", "1710", "A-3", "", "", ""],
        ["w9.jpg", "Nobody", "Ann Ax", "1710", "A-4", "", "", ""],
    ]
    with table.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(rows)
    told = json.loads(
        stack.artseek(
            "records", "import", str(table), "--collection", "works", "--key", "filename", "--json", check=False
        )
    )
    assert (told["rows"], told["matched"], told["images"], told["searchable"]) == (4, 3, 3, True)
    assert [(row["row"], row["key"]) for row in told["unmatched"]] == [(4, "w9.jpg")]
    assert list(told["unmatched_columns"]) == [""]
    assert told["new_fields"] == {"object_number": "text", "height": "number"}
    yield sorted(listed(client), key=lambda image: str(image["name"]))
    stack.artseek("delete", "--collection", "works", "--whole-collection")


def listed(client: Client, **query: object) -> Images:
    found: Images = client.call("GET /collections/{name}/images", name="works", query=query).json["images"]
    return found


def names(found: Images) -> list[str]:
    return [str(image["name"]) for image in found]


def image(client: Client, image_id: int) -> dict[str, Any]:
    found: dict[str, Any] = client.call("GET /collections/{name}/images/{id}", name="works", id=image_id).json
    return found


def test_an_import_is_shown_filtered_counted_and_sorted(client: Client, images: Images) -> None:
    first = image(client, images[0]["id"])
    assert first["fields"]["creator"] == [
        {"value": "Ann Ax", "lang": None, "origin": "csv"},
        {"value": "Ben Box", "lang": None, "origin": "csv"},
    ]
    assert (first["labels"], first["label"], first["paths"]) == (["work"], "work", ["w0.jpg"])
    assert image(client, images[1]["id"])["labels"] == ["mill", "river"]
    by_creator = listed(client, filter=json.dumps({"creator": ["Ann Ax"]}))
    assert sorted(names(by_creator)) == ["w0.jpg", "w1.jpg"]
    early = listed(client, filter=json.dumps({"date": {"from": "1650", "to": "1655"}}), sort="height")
    assert names(early) == ["w1.jpg", "w0.jpg"]
    assert names(listed(client, sort="-height"))[:2] == ["w0.jpg", "w1.jpg"]
    assert names(listed(client, text="muhle fluss")) == ["w0.jpg"]
    assert sorted(names(listed(client, label="mill"))) == ["w1.jpg"]
    facets = client.call("GET /collections/{name}/facets", name="works", query={"text": "ax"}).json
    assert facets["total"] == 2
    assert facets["facets"]["creator"] == [{"value": "Ann Ax", "count": 2}, {"value": "Ben Box", "count": 1}]
    assert facets["facets"]["label"] == [{"value": label, "count": 1} for label in ("mill", "river", "work")]
    assert facets["types"]["height"] == "number"


def test_what_the_file_says_is_in_the_record(client: Client, images: Images) -> None:
    assert image(client, images[4]["id"])["fields"]["caption"] == [
        {"value": "From the camera", "lang": None, "origin": "exif"}
    ]


def test_an_xmp_file_is_sent_along_with_its_image(client: Client, images: Images) -> None:
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:Credit="The archive"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    files = {"w5.jpg": picture(905), "w5.jpg.xmp": xmp, "stray.xmp": xmp}
    sent = client.call(
        "POST /collections/{name}/images", name="works", fields=[("images", file) for file in files.items()]
    ).json
    assert (sent["accepted"], [rejection["name"] for rejection in sent["rejected"]]) == (1, ["stray.xmp"])
    assert eventually(lambda: image(client, images[5]["id"])["fields"]) == {
        "credit": [{"value": "The archive", "lang": None, "origin": "sidecar"}]
    }


def test_filter_and_text_narrow_a_search(client: Client, images: Images) -> None:
    body = {"id": images[2]["id"], "filter": {"creator": ["Ann Ax"]}, "k": 10}
    hits = client.call("POST /collections/{name}/search", name="works", value=body).json["hits"]
    assert sorted(names(hits)) == ["w0.jpg", "w1.jpg"]
    body = {"id": images[2]["id"], "text": "sea", "mode": "lsh"}
    hits = client.call("POST /collections/{name}/search", name="works", value=body).json["hits"]
    assert names(hits) == ["w2.jpg"]


def test_hits_are_sorted_grouped_and_come_with_fields(client: Client, images: Images, stack: Stack) -> None:
    body = {"id": images[2]["id"], "k": 10, "sort": "-height", "group": "creator", "fields": ["creator", "height"]}
    hits = client.call("POST /collections/{name}/search", name="works", value=body).json["hits"]
    assert names(hits)[:3] == ["w0.jpg", "w1.jpg", "w2.jpg"]
    assert [hit["group"] for hit in hits] == ["Ann Ax", "Ann Ax", "Ben Box", None, None, None]
    assert hits[1]["fields"]["height"] == [{"value": 12.5, "lang": None, "origin": "csv"}]
    assert (hits[1]["labels"], hits[2]["fields"].keys()) == (["mill", "river"], {"creator"})
    body = {"id": images[2]["id"], "sort": "weight"}
    refused = client.call("POST /collections/{name}/search", name="works", value=body)
    assert refused.status == 422
    assert "'weight'" in refused.json["detail"]
    (first, *_) = listed(client, sort="-height", fields="title")
    assert first["fields"] == {"title": [{"value": "Mühle am Fluss", "lang": None, "origin": "csv"}]}
    arguments = ("--collection", "works", "--text", "ax", "--sort", "height", "--field", "title", "--json")
    found = json.loads(stack.artseek("search", *arguments))
    assert names(found["images"]) == ["w1.jpg", "w0.jpg"]


def test_the_search_page_filters_sorts_and_groups(client: Client, images: Images) -> None:
    options = {"collection": "works", "id": images[2]["id"], "group": "creator", "fields": "title", "text": "ax"}
    shown = page(client, "/?" + urlencode(options))
    places = [shown.index(text) for text in ('<h3 class="group">Ann Ax', "Mühle am Fluss", "=cmd()")]
    assert places[0] < min(places[1:])
    assert 'title="w2.jpg"' not in shown
    chosen = re.findall(r'href="([^"]*)" data-filter >\s*<span class="class-name">Ben Box', shown)
    address = html.unescape(chosen[0])
    assert {"id=" + str(images[2]["id"]), "group=creator", "text=ax"} <= set(address[2:].partition("#")[0].split("&"))
    narrowed = page(client, address)
    assert ("w0.jpg" in narrowed, "w1.jpg" in narrowed) == (True, False)
    alone = page(client, "/?" + urlencode({"collection": "works", "text": "sea"}))
    assert "1 image" in alone
    assert "w2.jpg" in alone


def test_a_field_with_several_values_is_the_class_of_an_evaluation(client: Client, images: Images) -> None:
    value = {"collection": "works", "sample": 10, "k": 5, "field": "creator"}
    job = client.call("POST /evaluations", value=value).json["job"]
    eventually(lambda: client.call("GET /jobs/{id}", id=job).json["state"] == "done")
    report = client.call("GET /evaluations/{id}", id=job).json
    assert (report["field"], report["queries"]) == ("creator", 3)
    assert (report["collection"]["labelled"], report["collection"]["classes"]) == (3, {"Ann Ax": 2, "Ben Box": 2})
    wanted = {"w0.jpg": ({"w1.jpg", "w2.jpg"}, "Ann Ax|Ben Box"), "w1.jpg": ({"w0.jpg"}, "Ann Ax")}
    wanted["w2.jpg"] = ({"w0.jpg"}, "Ben Box")
    names_of = {found["id"]: found["name"] for found in images}
    for run in report["runs"]:
        rows = client.call("GET /evaluations/{id}/queries", id=job, query={"run": run["id"]}).json["queries"]
        for row in rows:
            relevant, classes = wanted[row["name"]]
            hits = [names_of[hit["id"]] in relevant for hit in row["hits"]]
            assert (row["label"], row["relevant"], sum(hits)) == (classes, len(relevant), len(relevant))
            assert row["p_at_k"] == pytest.approx(sum(hits) / 5)
            precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
            assert row["ap_at_k"] == pytest.approx(sum(precisions) / len(relevant))
        assert run["p_at_k"] == pytest.approx((2 + 1 + 1) / 5 / 3)
        assert {name: one["queries"] for name, one in run["per_class"].items()} == {"Ann Ax": 2, "Ben Box": 2}
        assert run["confusion"]["Ann Ax"]["Ann Ax"] == 2
    refused = client.call("POST /evaluations", value={**value, "field": "weight"}).json["job"]
    eventually(lambda: client.call("GET /jobs/{id}", id=refused).json["state"] == "done")
    assert "'weight'" in client.call("GET /jobs/{id}", id=refused).json["rejected"][0]["reason"]


def test_an_edit_counts_and_null_hides(client: Client, images: Images) -> None:
    image_id = images[3]["id"]
    changes = {
        "labels": ["boat", "sea"],
        "fields": {"creator": [{"value": "Cy", "lang": "en"}], "width": 7, "title": "T"},
    }
    edited = client.call("PATCH /collections/{name}/images/{id}", name="works", id=image_id, value=changes).json
    assert (edited["labels"], edited["label"]) == (["boat", "sea"], "boat")
    assert edited["fields"]["creator"] == [{"value": "Cy", "lang": "en", "origin": "edit"}]
    assert edited["fields"]["width"] == [{"value": 7, "lang": None, "origin": "edit"}]
    assert names(listed(client, filter=json.dumps({"creator": ["Cy"]}))) == ["w3.jpg"]
    classes = client.call("GET /collections/{name}", name="works").json["classes"]
    assert classes == {"work": 4, "mill": 1, "river": 1, "boat": 1, "sea": 1}
    hidden = client.call(
        "PATCH /collections/{name}/images/{id}", name="works", id=images[0]["id"], value={"fields": {"date": None}}
    ).json
    assert "date" not in hidden["fields"]
    assert hidden["alternatives"]["date"] == [{"value": "c. 1652", "lang": None, "origin": "csv"}]
    many = {"ids": [images[4]["id"], images[5]["id"]], "fields": {"place": "Haarlem"}}
    assert client.call("PATCH /collections/{name}/images", name="works", value=many).json == {"images": 2}
    assert sorted(names(listed(client, text="haarlem"))) == ["w4.jpg", "w5.jpg"]


@pytest.mark.parametrize(
    "changes",
    [{"fields": {"1": "x"}}, {"fields": {"height": "tall"}}, {"fields": {"url": "javascript:alert(1)"}}, {"other": 1}],
)
def test_an_edit_that_does_not_fit_is_refused(client: Client, images: Images, changes: dict[str, object]) -> None:
    answer = client.call("PATCH /collections/{name}/images/{id}", name="works", id=images[1]["id"], value=changes)
    assert answer.status == 422


@pytest.mark.usefixtures("images")
def test_a_table_that_is_too_large_in_the_file_or_in_memory_is_refused(client: Client) -> None:
    bomb, once = io.BytesIO(), pa.DictionaryArray.from_arrays(np.zeros(200_000, np.int32), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"filename": once}), bomb, store_schema=False)
    for body, status, words in (
        (bomb.getvalue(), 422, "the table takes more than 128 MB of memory, its first"),
        (b"x" * (64 * 2**20 + 1), 413, "the request is larger than the"),
    ):
        answer = client.call(
            "POST /collections/{name}/records",
            name="works",
            query={"key": "filename"},
            body=body,
            headers={"Content-Type": "application/octet-stream"},
        )
        assert (answer.status, words in answer.json["detail"]) == (status, True), answer.json


def test_what_comes_out_goes_in_again(client: Client, images: Images, stack: Stack, tmp_path: Path) -> None:
    before = {kind: exported(client, kind) for kind in ("csv", "jsonl")}
    text = before["csv"].decode("utf-8")
    assert text.startswith("\ufeff")
    assert "'=cmd()" in text
    for kind, data in before.items():
        path = tmp_path / f"again.{kind}"
        path.write_bytes(data)
        stack.artseek("records", "import", str(path), "--collection", "works", "--key", "id")
        assert sorted(exported(client, "csv").splitlines()) == sorted(before["csv"].splitlines())
    lines = [json.loads(line) for line in exported(client, "jsonl").splitlines()]
    assert len(lines) == len(images)
    stack.artseek("export", str(tmp_path / "works.parquet"), "--collection", "works")
    stack.artseek("records", "import", str(tmp_path / "works.parquet"), "--collection", "works", "--key", "id")
    assert sorted(exported(client, "csv").splitlines()) == sorted(before["csv"].splitlines())


def test_vectors_come_out_and_go_in_again_though_an_import_dies(
    client: Client, images: Images, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"csv": "w.csv", "vectors": "w.vectors.parquet", "npy": "w.npy"}
    for kind, name in kinds.items():
        (tmp_path / name).write_bytes(exported(client, kind))
    vectors = read_embeddings(tmp_path / "w.vectors.parquet")
    order = np.argsort([image_id(found.digest) for found in vectors.images])
    assert np.array_equal(np.load(tmp_path / "w.npy"), vectors.vectors[order])
    refused = stack.artseek("import", str(tmp_path / "w.npy"), "--collection", "again", check=False)
    assert refused == ""
    system = connect_system(stack.settings)
    intake, unserved = VectorIntake(system), DeclaredModel("clip-of-somebody", 3)
    npy = read_embeddings(tmp_path / "w.npy", tmp_path / "w.csv")
    monkeypatch.setattr(vector_intake, "_BATCH", 1)  # neither of the two that die comes to the last
    for owner, method, died_at in ((ObjectStore, "put", 3), (TaskQueue, "index", 2)):
        with monkeypatch.context() as context:
            context.setattr(owner, method, _dying(getattr(owner, method), died_at))
            with pytest.raises(_Died):
                intake.run("again", npy, unserved)
    assert len(whole(client, "again")) < len(images)
    with pytest.raises(Invalid, match="has embeddings of clip-of-somebody"):
        intake.run("again", npy, DeclaredModel("another", 1))
    done = intake.run("again", npy, unserved)
    assert (done.served, done.without_original, done.dim) == (False, 0, vectors.dim)
    eventually(lambda: len(whole(client, "again")) == len(images))
    stack.artseek("records", "import", str(tmp_path / "w.csv"), "--collection", "again", "--key", "id")
    assert sorted(exported(client, "csv", "again").splitlines()) == sorted(exported(client, "csv").splitlines())
    (tmp_path / "again.npy").write_bytes(exported(client, "npy", "again"))
    assert np.allclose(np.load(tmp_path / "again.npy"), np.load(tmp_path / "w.npy"), atol=2e-3)
    by_id = client.call("POST /collections/{name}/search", name="again", value={"id": images[1]["id"], "k": 1}).json
    by_vector = {"vector": vectors.vectors[0].tolist(), "k": 1}
    hits = client.call("POST /collections/{name}/search", name="again", value=by_vector).json["hits"]
    assert (by_id["hits"][0]["id"], by_id["model"]) == (images[1]["id"], "clip-of-somebody")
    assert hits[0]["id"] == image_id(vectors.images[0].digest)
    stack.artseek("delete", "--collection", "again", "--whole-collection")


class _Died(BaseException):
    """The process died."""


def _dying(call: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Return a method that dies instead of its call number `at`."""
    calls = itertools.count(1)

    def die(*arguments: Any, **options: Any) -> Any:
        if next(calls) == at:
            raise _Died
        return call(*arguments, **options)

    return die


def whole(client: Client, collection: str) -> list[str]:
    """Return the names of the images of a collection, each of which has its embedding and its labels."""
    found = client.call("GET /collections/{name}/images", name=collection).json.get("images", [])
    originals = {one["id"]: one["labels"] for one in listed(client)}
    assert all(one["labels"] == originals[one["id"]] for one in found)
    return [one["name"] for one in found]


def exported(client: Client, kind: str, name: str = "works") -> bytes:
    return client.call("GET /collections/{name}/export", name=name, query={"format": kind}).body


def page(client: Client, target: str) -> str:
    answer = client.send("GET", target)
    assert answer.status == 200
    return answer.body.decode()


def test_pages_show_filter_and_edit_records(client: Client, images: Images) -> None:
    address = f"/collections/works/images/{images[2]['id']}"
    form = {"was.title": "The sea", "field.title": "<b>The sea</b>", "new_field": "Inventory No", "new_values": "007"}
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": client.url}
    edited = client.send("POST", f"{address}/record", body=urlencode(form).encode(), headers=headers)
    assert edited.status == 303
    shown = page(client, address)
    assert "&lt;b&gt;The sea&lt;/b&gt;" in shown
    assert "<b>The sea" not in shown
    assert image(client, images[2]["id"])["fields"]["inventory_no"][0]["value"] == "007"
    form = {"was.height": "", "field.height": "tall"}
    refused = client.send("POST", f"{address}/record", body=urlencode(form).encode(), headers=headers)
    assert refused.status == 422
    assert "is no number" in refused.body.decode()
    shown = page(client, "/collections/works?" + urlencode({"filter": json.dumps({"creator": ["Ann Ax"]})}))
    assert ("w0.jpg" in shown, "w1.jpg" in shown, "w2.jpg" in shown) == (True, True, False)
    many = {"filter": json.dumps({"creator": ["Ann Ax"]}), "field": "rights", "values": "CC0"}
    assert (
        client.send("POST", "/collections/works/records", body=urlencode(many).encode(), headers=headers).status == 303
    )
    assert sorted(names(listed(client, filter='{"rights": ["CC0"]}'))) == ["w0.jpg", "w1.jpg"]
    ticked = [("id", images[1]["id"]), ("id", images[4]["id"]), ("field", "rights"), ("values", "CC BY")]
    sent = client.send("POST", "/collections/works/records", body=urlencode(ticked).encode(), headers=headers)
    assert sent.status == 303
    assert sorted(names(listed(client, filter='{"rights": ["CC BY"]}'))) == ["w1.jpg", "w4.jpg"]


def test_a_purge_takes_the_record_along(client: Client, images: Images) -> None:
    image_id = images[5]["id"]
    client.call("DELETE /collections/{name}/images/{id}", name="works", id=image_id, query={"purge": "true"})
    eventually(lambda: not any(item["name"] == "w5.jpg" for item in listed(client)))
    assert names(listed(client, text="haarlem")) == ["w4.jpg"]
    assert exported(client, "csv").count(b"Haarlem") == 1


def test_all_paths_of_an_image_are_noted_shown_and_exported(client: Client, images: Images) -> None:
    known = images[2]
    noted = [
        {"digest": known["digest"], "path": path, "state": state, "label": label}
        for path, state, label in (
            ("b/x|y.jpg", "present", "b"),
            ("w2.jpg", "gone", None),
            ("old.jpg", "vanished", None),
        )
    ]
    value = {"source": "/photos", "paths": noted, "labels": [{"digest": known["digest"], "labels": ["b"]}]}
    assert client.call("POST /collections/{name}/paths", name="works", value=value).json == {"images": 1}
    shown = image(client, known["id"])
    assert (shown["name"], shown["paths"], shown["vanished_paths"]) == ("b/x|y.jpg", ["b/x|y.jpg"], ["old.jpg"])
    assert shown["labels"] == ["b"]
    listing = client.call("GET /collections/{name}/paths", name="works").json["images"]
    (held,) = (one["paths"] for one in listing if one["id"] == known["id"])
    assert [(one["source"], one["path"], one["state"], one["label"]) for one in held] == [
        ("/photos", "b/x|y.jpg", "present", "b"),
        ("/photos", "old.jpg", "vanished", None),
        ("/photos", "w2.jpg", "gone", None),
    ]
    page = client.send("GET", f"/collections/works/images/{known['id']}").body.decode()
    assert "b/x|y.jpg" in page
    assert "old.jpg" in page
    exported = client.call("GET /collections/{name}/export", name="works", query={"format": "jsonl"}).body
    lines = [json.loads(line) for line in exported.splitlines()]
    assert [line["paths"] for line in lines if line["id"] == known["id"]] == [["b/x|y.jpg"]]
    again = client.call("POST /collections/{name}/paths", name="nowhere", value=value)
    assert again.status == 404
