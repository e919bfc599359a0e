"""Rounds of judging by the REST API, the page and the command: kept as queries, or as files to train on."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.storage.layout import image_id
from tests.support.stack import Stack
from tests.support.web_client import Client, picture
from training.labelled_images import read_background, read_labelled

QUERIES = "POST /collections/{name}/judgements/queries"
TRAINING = "POST /collections/{name}/judgements/training"
SET = "judged-round"
Known = dict[int, tuple[str, bytes]]


@pytest.fixture
def no_set(client: Client) -> Iterator[None]:
    yield
    client.call("DELETE /querysets/{name}", name=SET)


def digest_id(data: bytes) -> int:
    return image_id(hashlib.sha256(data).hexdigest())


def unpacked(body: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.usefixtures("no_set")
def test_rounds_add_up_to_a_query_set_by_which_the_collection_is_evaluated(client: Client, known: Known) -> None:
    ids = list(known)
    round_ = {"label": "shapes", "id": ids[:1], "like": ids[1:3], "unlike": ids[3:4], "queries": SET}
    first = client.call(QUERIES, name="web-api", value=round_)
    assert first.status == 201
    assert first.json == {
        "name": SET, "queries": 3, "classes": {"shapes": 3}, "rejected": [], "of_class": 6,
    }  # fmt: skip
    again = client.call(QUERIES, name="web-api", value=round_).json
    assert again["queries"] == 3
    more = client.call(QUERIES, name="web-api", value={"label": " lines ", "like": ids[4:5], "queries": SET}).json
    assert (more["classes"], more["of_class"]) == ({"lines": 1, "shapes": 3}, 0)
    # What was marked is found again by an evaluation, as queries that the collection holds.
    job = client.call("POST /evaluations", value={"collection": "web-api", "queries": SET, "k": 3}).json["job"]
    client.finished(job)
    report = client.call("GET /evaluations/{id}", id=job).json
    assert report["queries"] == 4
    assert {copy["image"] for copy in report["query_set"]["copies"] if copy["kind"] == "identical"} >= set(ids[:3])
    client.call("DELETE /evaluations/{id}", id=job)


@pytest.mark.usefixtures("no_set")
def test_what_is_no_round_is_told_and_leaves_the_set_as_it_was(client: Client, known: Known) -> None:
    ids = list(known)
    client.call(QUERIES, name="web-api", value={"label": "shapes", "like": ids[:1], "queries": SET})
    for value, status, words in (
        ({"label": "other", "like": ids[:1]}, 422, "the same image"),
        ({"label": "shapes", "like": ids[:2], "unlike": ids[1:2]}, 422, "both ways"),
        ({"label": " ", "like": ids[:1]}, 422, "blank"),
        ({"label": "shapes", "unlike": ids[:1]}, 422, "nothing is of the class"),
        ({"label": "shapes", "like": [77]}, 404, "77"),
        ({"label": "shapes", "like": ids[:1], "upload": ["0" * 64]}, 404, "is not kept"),
        ({"label": "shapes", "like": ids[:1], "queries": "No Name"}, 422, "queries"),
    ):
        reply = client.call(QUERIES, name="web-api", value={"queries": SET, **value})
        assert (reply.status, words in reply.json["detail"]) == (status, True), reply.body
    sets = client.call("GET /querysets").json["querysets"]
    assert [held for held in sets if held["name"] == SET] == [{"name": SET, "queries": 1, "classes": {"shapes": 1}}]


def test_a_round_comes_as_files_that_training_takes(client: Client, known: Known) -> None:
    ids = list(known)
    query = picture(77_001)
    client.send("POST", "/results", fields=[("collection", "web-api"), ("image", ("mine.jpg", query))])
    kept = hashlib.sha256(query).hexdigest()
    value = {"label": "a/b", "like": ids[:2], "unlike": ids[2:3], "upload": [kept]}
    expected = {
        f"classes/a_b/{digest_id(query)}-mine.jpg": query,
        **{f"classes/a_b/{image}-{known[image][0]}": known[image][1] for image in ids[:2]},
        f"background/{ids[2]}-{known[ids[2]][0]}": known[ids[2]][1],
    }
    assert unpacked(client.call(TRAINING, name="web-api", value=value).body) == expected
    form = [("label", "a/b"), ("upload", kept), ("unlike", str(ids[2])), *(("like", str(image)) for image in ids[:2])]
    sent = client.send("POST", "/collections/web-api/judgements/training", fields=form)
    assert unpacked(sent.body) == expected
    assert sent.headers["Content-Disposition"] == 'attachment; filename="web-api-judged.zip"'


@pytest.mark.usefixtures("no_set")
def test_the_command_keeps_the_same(client: Client, stack: Stack, known: Known, tmp_path: Path) -> None:
    ids = list(known)
    file = tmp_path / "mine.jpg"
    file.write_bytes(picture(77_002))
    marks = [str(file), "--label", "shapes", "--collection", "web-api", "--like", str(ids[0]), "--unlike", str(ids[1])]
    beside = json.loads(stack.artseek("judge", *marks, "--keep", SET, "--json"))
    assert (beside["queries"]["queries"], beside["queries"]["of_class"]) == (2, 6)
    afar = {"ARTSEEK_URL": stack.url}
    status, printed, told = stack.run("judge", *marks, "--keep", SET, "--json", **afar)
    assert status == 0, told
    assert json.loads(printed)["queries"] == beside["queries"]
    sets = client.call("GET /querysets").json["querysets"]
    assert {"name": SET, "queries": 2, "classes": {"shapes": 2}} in sets
    folders = tmp_path / "beside", tmp_path / "afar"
    stack.artseek("judge", *marks, "--out", str(folders[0]))
    assert stack.run("judge", *marks, "--out", str(folders[1]), **afar)[0] == 0
    written = [
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    ]
    assert written[0] == written[1]
    assert written[0] == {
        f"classes/shapes/{digest_id(file.read_bytes())}-mine.jpg": file.read_bytes(),
        f"classes/shapes/{ids[0]}-{known[ids[0]][0]}": known[ids[0]][1],
        f"background/{ids[1]}-{known[ids[1]][0]}": known[ids[1]][1],
    }
    # With a round of another class in the same folder, training reads it.
    other = ["--label", "lines", "--like", str(ids[2]), "--like", str(ids[3]), "--unlike", str(ids[0])]
    stack.artseek("judge", *other, "--unlike", str(ids[4]), "--collection", "web-api", "--out", str(folders[0]))
    labelled = read_labelled(folders[0] / "classes")
    assert (labelled.classes, len(labelled)) == (("lines", "shapes"), 4)
    background, refused = read_background(folders[0] / "background", [labelled])
    assert (len(background), refused) == (2, [])  # what is of a class is not of the background
    status, _, told = stack.run("judge", "--label", "shapes", "--collection", "web-api", "--like", "77", "--keep", SET)
    assert (status, "77" in told) == (1, True)


def a_document(*seeds: int) -> bytes:
    """A TIFF file with a picture on each page."""
    first, *others = [Image.open(io.BytesIO(picture(seed))) for seed in seeds]
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=others)
    return file.getvalue()


def looks_like(data: bytes, seed: int) -> bool:
    shown, drawn = (np.asarray(Image.open(io.BytesIO(each)).convert("L"), float) for each in (data, picture(seed)))
    return shown.shape == drawn.shape and bool(np.abs(shown - drawn).mean() < 6)


@pytest.mark.usefixtures("no_set", "known")
def test_pages_of_a_document_are_kept_as_their_pictures(client: Client, stack: Stack, tmp_path: Path) -> None:
    name = "web-judged-pages"
    client.upload(
        name, [("scan.tif", a_document(78_000, 78_001, 78_002)), ("one.jpg", picture(78_003))], label="shapes"
    )
    client.wait_for_index(name)
    listed = client.call("GET /collections/{name}/images", name=name, query={"limit": 10}).json["images"]
    pages = {image["document"]["page"]: image for image in listed if image["document"]}
    ids = {page: image["id"] for page, image in pages.items()}
    try:
        value = {"label": "shapes", "like": [ids[2], ids[3]], "queries": SET}
        kept = client.call(QUERIES, name=name, value=value)
        assert (kept.status, kept.json["queries"], kept.json["rejected"]) == (201, 2, []), kept.body
        # The collection holds them; another one is searched by their pictures.
        for collection, held in ((name, [ids[2], ids[3]]), ("web-api", [])):
            job = client.call("POST /evaluations", value={"collection": collection, "queries": SET, "k": 3}).json["job"]
            client.finished(job)
            report = client.call("GET /evaluations/{id}", id=job).json
            copies = [copy["image"] for copy in report["query_set"]["copies"] if copy["kind"] == "identical"]
            assert (report["queries"], sorted(copies)) == (2, sorted(held))
            if not held:
                digest = pages[2]["digest"]
                shown = client.send("GET", f"/evaluations/{collection}/{job}/queries/{digest}/thumbnail")
                assert (shown.status, looks_like(shown.body, 78_001)) == (200, True)
            client.call("DELETE /evaluations/{id}", id=job)
        expected = {
            f"classes/shapes/{ids[2]}-scan.tif, page 2.jpg": 78_001,
            f"background/{ids[3]}-scan.tif, page 3.jpg": 78_002,
        }
        marks = {"label": "shapes", "like": [ids[2]], "unlike": [ids[3]]}
        files = unpacked(client.call(TRAINING, name=name, value=marks).body)
        assert files.keys() == expected.keys()
        assert all(looks_like(files[path], seed) for path, seed in expected.items())
        arguments = ["judge", "--label", "shapes", "--collection", name, "--like", str(ids[2]), "--unlike", str(ids[3])]
        for place, environment in (("beside", {}), ("afar", {"ARTSEEK_URL": stack.url})):
            status, _, told = stack.run(*arguments, "--out", str(tmp_path / place), **environment)
            assert status == 0, told
            folder = tmp_path / place
            assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")} == files
        again = json.loads(stack.artseek(*arguments, "--keep", SET, "--json"))["queries"]
        assert (again["queries"], again["rejected"]) == (2, [])
    finally:
        client.call("DELETE /collections/{name}", name=name)


def test_the_command_makes_a_map(client: Client, stack: Stack, known: Known) -> None:
    made = json.loads(stack.artseek("map", "--collection", "web-api", "--anew", "--json"))
    assert (made["kind"], made["state"], made["affected"]) == ("map", "done", len(known))
    status, printed, _ = stack.run("map", "--collection", "web-api", ARTSEEK_URL=stack.url)
    assert (status, f"{len(known)} images are on the map" in printed) == (0, True)
    assert len(client.call("GET /collections/{name}/map", name="web-api").json["ids"]) == len(known)
    status, _, told = stack.run("map", "--collection", "no-such")
    assert (status, "no-such" in told) == (1, True)
