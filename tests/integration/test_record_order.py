"""Images in the order of a field: by the labels that count, and what has no place in the order last both ways."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import SEARCH, Client, picture

NAME = "in-order"
IMAGES = "GET /collections/{name}/images"


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    """Five images with the label m of an upload, of which some have other labels and dates by edits."""
    made = Client(stack.url)
    made.upload(NAME, [(f"{number}.jpg", picture(62_000 + number)) for number in range(5)], label="m")
    ids = {image["name"]: image["id"] for image in made.call(IMAGES, name=NAME).json["images"]}
    edits: dict[str, dict[str, Any]] = {
        "0.jpg": {"labels": ["a"], "fields": {"date": "1700"}},
        "1.jpg": {"labels": [], "fields": {"date": "some time ago"}},
        "2.jpg": {"labels": ["z"], "fields": {"date": ["undated", "1650"]}},
        "3.jpg": {"fields": {"date": "c. 1680"}},
    }
    for name, edit in edits.items():
        path = {"name": NAME, "id": ids[name]}
        assert made.call("PATCH /collections/{name}/images/{id}", value=edit, **path).status == 200
    eventually(lambda: made.call(IMAGES, name=NAME, query={"filter": '{"date": [""]}'}).json["total"] == 1)
    yield made
    stack.artseek("delete", "--collection", NAME, "--whole-collection")


def order(found: list[dict[str, Any]]) -> str:
    return "".join(image["name"].removesuffix(".jpg") for image in found)


def test_a_list_goes_by_the_labels_that_count(client: Client) -> None:
    def listed(sort: str) -> str:
        return order(client.call(IMAGES, name=NAME, query={"sort": sort}).json["images"])

    forward, backward = listed("label"), listed("-label")
    assert (forward[0], set(forward[1:3]), forward[3:]) == ("0", {"3", "4"}, "21")
    assert (backward[0], set(backward[1:3]), backward[3:]) == ("2", {"3", "4"}, "01")


@pytest.mark.parametrize(("sort", "first"), [("date", "230"), ("-date", "032")])
def test_dates_that_cannot_be_read_are_last_with_those_that_are_missing(client: Client, sort: str, first: str) -> None:
    listed = client.call(IMAGES, name=NAME, query={"sort": sort}).json["images"]
    options = {"id": listed[0]["id"], "k": 5, "mode": "exact", "sort": sort}
    hits = client.call(SEARCH, name=NAME, value=options).json["hits"]
    for found in (listed, hits):
        assert (order(found)[:3], set(order(found)[3:])) == (first, {"1", "4"})
