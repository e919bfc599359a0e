"""Search options and damaged segments where people meet them: on the command line and on the pages."""

import html
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest

from shared.rpc.query.connecting import connect_query
from shared.state import Change, Changes, connect
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from tests.support.stack import Stack
from tests.support.web_client import Client, picture


@pytest.fixture(scope="module")
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.fixture(scope="module")
def gallery_images(client: Client) -> list[dict[str, Any]]:
    """The images of the gallery."""
    images = client.call("GET /collections/{name}/images", name="default", query={"limit": 1000}).json["images"]
    return sorted(images, key=lambda image: int(image["id"]))


def search(stack: Stack, *arguments: str) -> list[dict[str, Any]]:
    hits: list[dict[str, Any]] = json.loads(stack.artseek("search", *arguments, "--json"))["hits"]
    return hits


def test_the_command_filters_moves_and_cuts(stack: Stack, gallery_images: list[dict[str, Any]]) -> None:
    first = gallery_images[0]
    labels = sorted({image["label"] for image in gallery_images})
    of_class = [image["id"] for image in gallery_images if image["label"] in labels[:2]]
    hits = search(stack, "--id", str(first["id"]), "--label", labels[0], "--label", labels[1], "-k", "1000")
    assert sorted(hit["id"] for hit in hits) == sorted(of_class)
    above = search(
        stack, "--id", str(first["id"]), "--min-score", str(hits[2]["score"]), "--label", labels[0], "-k", "60"
    )
    assert all(hit["score"] >= hits[2]["score"] for hit in above)
    assert above[0]["id"] == first["id"] or first["label"] != labels[0]
    like, unlike = (str(gallery_images[place]["id"]) for place in (3, 40))
    moved = search(stack, "--like", like, "--unlike", unlike, "-k", "60")
    assert str(moved[0]["id"]) == like
    answer = json.loads(stack.artseek("search", "--id", like, "--mode", "lsh", "--budget", "5", "--json"))
    assert 1 <= answer["candidates"] <= 5
    assert answer["seen"] >= answer["candidates"]
    assert answer["probed_buckets"] >= 1


def test_the_command_wants_something_to_search_for(stack: Stack) -> None:
    for arguments in ([], ["--label", "a"], ["--id", "0"], ["--like", "-4"], ["--id", "1", "--budget", "0"]):
        with pytest.raises(AssertionError, match="ended with 2"):
            stack.artseek("search", *arguments)


def choices(page: str) -> dict[str, bool]:
    """Return the classes that a search page offers, and which are chosen."""
    (select,) = re.findall(r'<select name="label".*?</select>', page, re.DOTALL)
    found = re.findall(r'<option value="([^"]*)"\s*(selected)?', select)
    return {html.unescape(value): bool(chosen) for value, chosen in found}


def shown(page: str) -> list[int]:
    return [int(image) for image in re.findall(r'<li class="work" data-id="(\d+)"', page)]


def found_by_form(client: Client, fields: Sequence[tuple[str, Any]]) -> str:
    """Return the page that the search form leads a browser without scripts to."""
    answer = client.send("POST", "/search", fields=fields)
    assert answer.status == 303
    address = urlsplit(answer.headers["Location"])
    return client.send("GET", f"{address.path}?{address.query}").body.decode()


def test_the_search_page_filters_by_class_without_scripts(client: Client, gallery_images: list[dict[str, Any]]) -> None:
    labels = sorted({image["label"] for image in gallery_images})
    page = client.send("GET", "/?collection=default").body.decode()
    assert choices(page) == {"": False, **dict.fromkeys(labels, False)}
    image = gallery_images[0]["id"]
    by_id = client.send("GET", f"/?collection=default&id={image}&k=96&label={labels[1]}").body.decode()
    assert choices(by_id) == {"": False, **dict.fromkeys(labels, False), labels[1]: True}
    of_class = {one["id"] for one in gallery_images if one["label"] == labels[1]}
    assert set(shown(by_id)) == of_class
    assert f"label={labels[1]}" in html.unescape(by_id)  # links to more keep the filter
    fields = [("image", ("query.jpg", picture(7))), ("collection", "default"), ("k", "96"), ("label", labels[1])]
    assert set(shown(found_by_form(client, fields))) == of_class
    fields[-1] = ("label", "")  # all classes
    assert len(shown(found_by_form(client, fields))) == len(gallery_images)
    nothing = client.send("GET", f"/?collection=default&id={image}&label=no-such-class").body.decode()
    assert "No image passes the filter" in nothing
    assert choices(nothing)["no-such-class"]


@pytest.fixture
def damaged(stack: Stack, client: Client) -> Iterator[str]:
    """A collection of which one of two segments is broken."""
    client.upload("search-damaged", [("one.jpg", picture(801))], label="shapes")
    store = ObjectStore.from_settings(stack.settings)
    key = layout.segment_key("search-damaged", "brokensegment-0")
    store.put(key, b"no segment")
    changes = Changes(connect(stack.settings.index_url.get_secret_value()))
    changes.announce(Change("search-damaged", "segment", "brokensegment-0"))
    yield "search-damaged"
    store.delete([key])
    changes.announce(Change("search-damaged", "rebuilt"))


def test_a_damaged_segment_is_named_everywhere_and_the_rest_is_served(
    stack: Stack, client: Client, damaged: str
) -> None:
    answer = client.call("GET /collections/{name}", name=damaged).json
    assert (answer["damaged"], answer["images"]) == (["brokensegment-0"], 1)
    with connect_query(stack.settings) as query:
        assert list(query.collection(damaged).damaged) == ["brokensegment-0"]
        assert list(query.collection("default").damaged) == []
    assert "brokensegment-0" in client.send("GET", f"/collections/{damaged}").body.decode()
    listed = {
        collection["name"]: collection["damaged"]
        for collection in json.loads(stack.artseek("collections", "--json"))["collections"]
    }
    assert (listed[damaged], listed["default"]) == (["brokensegment-0"], [])
    assert "brokensegment-0" in stack.artseek("collections")
    (image,) = client.call("GET /collections/{name}/images", name=damaged).json["images"]
    assert search(stack, "--collection", damaged, "--id", str(image["id"]))[0]["id"] == image["id"]
