"""What an earlier version stored still opens: its data folder, started by this version, answers as it did.

`data-0.1.tar.xz` is the data folder of version 0.1.0: two collections of generated pictures, one of them with a merged
segment and deleted rows, an index generation each, an evaluation, and a kept query set. It has neither model nor logs.
`data-0.1.json` is what the API said of it.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import Stack, start_stack
from tests.support.web_client import Client

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What version 0.1.0 answered."""
    return dict(json.loads((HERE / "data-0.1.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """This version, started on the data folder of version 0.1.0."""
    folder = tmp_path_factory.mktemp("upgrade")
    with tarfile.open(HERE / "data-0.1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    stack = start_stack(folder / "artseek")
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def client(upgraded: Stack) -> Client:
    """A client of its API."""
    return Client(upgraded.url)


def images_of(client: Client, collection: str) -> list[dict[str, Any]]:
    """Return the images of a collection."""
    reply = client.call("GET /collections/{name}/images", name=collection, query={"limit": 100})
    return list(reply.json["images"])


def search(client: Client, collection: str, image_id: int, mode: str) -> list[tuple[int, float]]:
    """Return ids and scores of the five images that are most like one of the collection."""
    query = {"id": image_id, "k": 5, "mode": mode}
    reply = client.call("POST /collections/{name}/search", name=collection, value=query)
    return [(hit["id"], hit["score"]) for hit in reply.json["hits"]]


@pytest.mark.parametrize("collection", ["shapes", "discs"])
def test_a_folder_of_version_0_1_answers_as_it_did(client: Client, expected: dict[str, Any], collection: str) -> None:
    before = expected["collections"][collection]
    images = images_of(client, collection)

    assert [[i["id"], i["name"], i["label"], i["digest"], i["added"]] for i in images] == before["images"]
    for image_id, answers in before["exact"].items():
        exact = search(client, collection, int(image_id), "exact")
        assert [hit for hit, _ in exact] == [hit for hit, _ in answers]
        assert [score for _, score in exact] == pytest.approx([score for _, score in answers], abs=2e-5)
        assert search(client, collection, int(image_id), "lsh")[0][0] == int(image_id)


def test_originals_and_evaluations_of_version_0_1_are_there(
    upgraded: Stack, client: Client, expected: dict[str, Any]
) -> None:
    for collection, before in expected["collections"].items():
        for image_id, *_ in before["images"]:
            operation = "GET /collections/{name}/images/{id}/original"
            assert client.call(operation, name=collection, id=image_id).status == 200

    assert [evaluation["id"] for evaluation in client.call("GET /evaluations").json["evaluations"]] == expected[
        "evaluations"
    ]
    evaluated = upgraded.artseek(
        "evaluate", "--collection", "shapes", "--queries", "shapes-queries", "-k", "5", "--json"
    )
    assert json.loads(evaluated)["queries"] == 28


def test_a_collection_of_version_0_1_takes_changes_and_is_rebuilt(
    upgraded: Stack, client: Client, expected: dict[str, Any]
) -> None:
    image_id, other = (image[0] for image in expected["collections"]["discs"]["images"][:2])

    upgraded.artseek("delete", "--collection", "discs", str(image_id))
    upgraded.artseek("rebuild", "--collection", "discs")
    upgraded.artseek("compact", "--collection", "discs")

    assert [image["id"] for image in images_of(client, "discs")] == [
        image[0] for image in expected["collections"]["discs"]["images"] if image[0] != image_id
    ]
    assert search(client, "discs", other, "lsh")[0][0] == other
