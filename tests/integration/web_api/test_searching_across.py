"""A search over several collections by the REST API and the command."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack
from tests.support.web_client import SEARCH, Client, File, picture

ACROSS = "POST /search"
OTHER = "web-across"


@pytest.fixture(scope="module")
def both(client: Client, known: dict[int, tuple[str, bytes]]) -> Iterator[list[str]]:
    """The collection ``web-api`` and another of the same model, which has one of its images too."""
    assert known
    files = [(f"work {number}.jpg", picture(number)) for number in range(5, 12)]
    client.upload(OTHER, files, label="others")
    client.wait_for_index(OTHER)
    yield ["web-api", OTHER]
    client.call("DELETE /collections/{name}", name=OTHER)


def test_several_collections_are_searched_as_each_alone(
    client: Client, stack: Stack, both: list[str], known: dict[int, tuple[str, bytes]], tmp_path: Path
) -> None:
    name, data = list(known.values())[5]
    alone = {
        where: client.call(SEARCH, name=where, fields=[("image", (name, data)), ("k", "9"), ("mode", "exact")]).json
        for where in both
    }
    wanted = sorted(
        ((hit["distance"], hit["id"], where) for where, found in alone.items() for hit in found["hits"]),
        key=lambda hit: (round(hit[0], 9), hit[1], both.index(hit[2])),
    )[:9]
    fields: list[tuple[str, str | File]] = [
        ("image", (name, data)),
        ("k", "9"),
        ("mode", "exact"),
        *(("collections", where) for where in both),
    ]
    found = client.call(ACROSS, fields=fields).json
    assert [(hit["id"], hit["collection"]) for hit in found["hits"]] == [(image, where) for _, image, where in wanted]
    assert [hit["collection"] for hit in found["hits"][:2]] == both  # which both have the picture
    assert [(collection["name"], collection["collection_size"]) for collection in found["collections"]] == [
        ("web-api", 6),
        (OTHER, 7),
    ]
    assert found["left_out"] == []
    assert found["model"] == alone["web-api"]["model"]
    assert client.send("GET", found["hits"][1]["thumbnail"]).status == 200

    file = tmp_path / "query.jpg"
    file.write_bytes(data)
    named = [part for where in both for part in ("--collection", where)]
    printed = json.loads(stack.artseek("search", str(file), *named, "-k", "9", "--mode", "exact", "--json"))
    assert printed["hits"] == found["hits"]
    table = stack.artseek("search", str(file), *named)
    assert f"{OTHER}: exact: 7 of 7 images ranked" in table
    everywhere = json.loads(stack.artseek("search", str(file), "--all", "--json"))
    assert {*both} <= {collection["name"] for collection in everywhere["collections"]}


def test_without_names_all_collections_are_searched_and_wrong_requests_are_told(
    client: Client, both: list[str], known_id: int
) -> None:
    found = client.call(ACROSS, value={"id": known_id, "k": 2}).json
    assert {*both} <= {part["name"] for part in found["collections"]}
    assert found["hits"][0]["id"] == known_id  # in whichever collection: others may hold it too
    found = client.call(ACROSS, value={"id": known_id, "collections": ["web-api", "nowhere"]}).json
    assert [(left["name"], left["reason"]) for left in found["left_out"]] == [("nowhere", "unknown")]
    for value, status, words in (
        ({"id": known_id, "collections": ["nowhere"]}, 404, "nowhere"),
        ({"id": 77, "collections": both}, 404, "no image 77 in any of the collections"),
        ({"collections": both}, 422, "is missing"),
        ({"id": known_id, "collections": both, "sort": "name"}, 422, "sort"),
    ):
        reply = client.call(ACROSS, value=value)
        assert (reply.status, words in reply.body.decode()) == (status, True), reply.body
