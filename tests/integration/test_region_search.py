"""Regions as people meet them: switched on by command, API and page; a detail finds its picture, which is framed."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared.windows import windows
from tests.support.eventually import eventually
from tests.support.pictures import detailed, saved
from tests.support.stack import Stack
from tests.support.web_client import SEARCH, Client, File

NAME, OTHER = "details", "other-details"
COUNT = 12
WIDTH, HEIGHT = 480, 360
DETAIL, PLACE = 7, 20  # a picture, and which of its windows is searched for
REGIONS, SWITCH = "GET /collections/{name}/regions", "PUT /collections/{name}/regions"
LEFT, TOP, RIGHT, BOTTOM = windows(WIDTH, HEIGHT)[PLACE]
BOX = {"x": LEFT, "y": TOP, "w": RIGHT - LEFT, "h": BOTTOM - TOP}


def work(number: int) -> Image.Image:
    return detailed(100 + number, WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.fixture(scope="module")
def detail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of one of the pictures."""
    file = tmp_path_factory.mktemp("detail") / "detail.png"
    file.write_bytes(saved(work(DETAIL).crop((LEFT, TOP, RIGHT, BOTTOM)), "PNG"))
    return file


@pytest.fixture(scope="module")
def ids(client: Client, stack: Stack) -> Iterator[list[int]]:
    """The ids of the pictures of the collection, whose regions are indexed by the command."""
    files: list[File] = [(f"work {number}.png", saved(work(number), "PNG")) for number in range(COUNT)]
    client.upload(NAME, files)
    images = client.wait_for(NAME, COUNT)
    before = json.loads(stack.artseek("regions", "status", "--collection", NAME, "--json"))
    assert (before["regions"], before["images"], before["with_regions"], before["windows"]) == (False, COUNT, 0, 0)
    assert before["costs"]["embeddings"] == 38 * COUNT
    assert before["costs"]["store_bytes"] > 38 * COUNT * 4 * 8
    done = json.loads(stack.artseek("regions", "on", "--collection", NAME, "--yes", "--json"))
    assert (done["regions"], done["with_regions"], done["windows"], done["failed"]) == (True, COUNT, 38 * COUNT, [])
    assert done["costs"]["embeddings"] == 0
    number_of = {int(image["name"].split()[1].split(".")[0]): image["id"] for image in images}
    yield [number_of[number] for number in range(COUNT)]
    client.call("DELETE /collections/{name}", name=NAME)


def search(client: Client, detail: Path, **options: str) -> Any:
    fields: list[tuple[str, str | File]] = [("image", (detail.name, detail.read_bytes()))]
    return client.call(SEARCH, name=NAME, fields=[*fields, *options.items()]).json


def test_a_detail_finds_its_picture_and_says_where(client: Client, ids: list[int], detail: Path) -> None:
    found = search(client, detail)
    first = found["hits"][0]
    assert (first["id"], first["region"]) == (ids[DETAIL], BOX)
    assert first["score"] > 0.99
    assert (found["collection_size"], found["windows"]) == (COUNT, 38 * COUNT)
    assert len({hit["id"] for hit in found["hits"]}) == len(found["hits"]) == 10  # an image is one hit
    whole = search(client, detail, regions="false")
    assert whole["windows"] == 0
    assert not any("region" in hit for hit in whole["hits"])
    assert max(hit["score"] for hit in whole["hits"]) < first["score"]
    by_id = client.call(SEARCH, name=NAME, value={"id": ids[3], "k": 1}).json["hits"][0]
    assert (by_id["id"], "region" in by_id) == (ids[3], False)  # its whole matches best
    part = client.call(SEARCH, name=NAME, value={"id": ids[DETAIL], "box": f"{LEFT},{TOP},{BOX['w']},{BOX['h']}"}).json
    assert (part["hits"][0]["id"], part["hits"][0]["region"]) == (ids[DETAIL], BOX)
    batch = client.call("POST /collections/{name}/search-batch", name=NAME, value={"ids": ids[:2], "k": 1}).json
    assert [answer["hits"][0]["id"] for answer in batch["answers"]] == ids[:2]


def test_the_command_prints_the_region_and_can_leave_regions_out(stack: Stack, ids: list[int], detail: Path) -> None:
    box = f"{LEFT},{TOP},{BOX['w']},{BOX['h']}"
    table = stack.artseek("search", str(detail), "--collection", NAME, "-k", "3")
    assert box in table
    assert f"{COUNT} of {COUNT} images and {38 * COUNT} of their windows ranked" in " ".join(table.split())
    whole = json.loads(stack.artseek("search", str(detail), "--collection", NAME, "--no-regions", "--json"))
    assert not any("region" in hit for hit in whole["hits"])
    across = json.loads(stack.artseek("search", str(detail), "--all", "--json"))
    assert (across["hits"][0]["id"], across["hits"][0]["region"]) == (ids[DETAIL], BOX)
    assert "windows of 12 images are indexed" in stack.artseek("regions", "status", "--collection", NAME)


def test_a_set_of_windows_is_shown_nowhere(client: Client, stack: Stack, ids: list[int]) -> None:
    assert ids
    (shown,) = [
        collection
        for collection in client.call("GET /collections").json["collections"]
        if collection["name"].startswith(NAME)
    ]
    assert (shown["name"], shown["images"], shown["regions"]) == (NAME, COUNT, True)
    assert (shown["with_regions"], shown["windows"]) == (COUNT, 38 * COUNT)
    assert "~" not in stack.artseek("collections")
    assert "~" not in client.send("GET", "/collections").body.decode()
    for path in (f"/api/v1/collections/{NAME}~regions", f"/collections/{NAME}~regions"):
        assert client.send("GET", path).status in {400, 404, 422}


def test_the_page_frames_the_region_and_its_form_can_leave_regions_out(client: Client, ids: list[int]) -> None:
    query = f"collection={NAME}&id={ids[DETAIL]}&box={LEFT},{TOP},{BOX['w']},{BOX['h']}"
    page = client.send("GET", f"/?{query}").body.decode()
    assert f'<rect x="{LEFT}" y="{TOP}" width="{BOX["w"]}" height="{BOX["h"]}"/>' in page
    assert "a region of it" in page
    assert "Whole pictures only" in page
    whole = client.send("GET", f"/?{query}&regions=false").body.decode()
    assert "a region of it" not in whole
    assert re.search(r'name="regions" value="false" checked', whole)
    assert "regions=false" in html.unescape(whole).split('data-address="')[1].split('"')[0]  # its address keeps it
    overview = client.send("GET", f"/collections/{NAME}").body.decode()
    assert f"{38 * COUNT} windows of {COUNT} of the {COUNT} images are indexed" in overview


def test_a_piece_of_the_edge_finds_a_long_picture_though_nothing_is_switched_on(client: Client) -> None:
    name, long = "long-details", detailed(99, 1200, 200)
    files = [(f"work {number}.png", saved(work(number), "PNG")) for number in range(3)]
    client.upload(name, [*files, ("scroll.png", saved(long, "PNG"))])
    edge = ("image", ("edge.png", saved(long.crop((0, 0, 200, 200)), "PNG")))

    def first() -> Any:
        return client.call(SEARCH, name=name, fields=[edge]).json["hits"][0]

    client.wait_for(name, 4)
    eventually(lambda: "region" in first())
    assert (first()["name"], first()["region"]) == ("scroll.png", {"x": 0, "y": 0, "w": 200, "h": 200})
    assert first()["score"] > 0.99
    told = client.call(REGIONS, name=name).json
    assert (told["regions"], told["with_regions"]) == (False, 1)
    client.call("DELETE /collections/{name}", name=name)


def test_api_and_page_switch_and_a_deleted_picture_is_not_found(
    client: Client, stack: Stack, detail: Path, ids: list[int]
) -> None:
    assert ids
    files: list[File] = [(f"work {number}.png", saved(work(number), "PNG")) for number in (1, DETAIL)]
    client.upload(OTHER, files)
    page = client.send("GET", f"/collections/{OTHER}").body.decode()
    assert "It costs at most 76 embeddings" in page
    reply = client.call(SWITCH, name=OTHER, value={"regions": True})
    assert reply.status == 202
    assert client.finished(reply.json["job"])["kind"] == "regions"
    assert client.call(REGIONS, name=OTHER).json["with_regions"] == 2
    found = json.loads(stack.artseek("search", str(detail), "--collection", OTHER, "--json"))["hits"]
    assert (found[0]["id"], found[0]["region"]) == (ids[DETAIL], BOX)
    client.call("DELETE /collections/{name}/images/{id}", name=OTHER, id=ids[DETAIL])
    found = json.loads(stack.artseek("search", str(detail), "--collection", OTHER, "--json"))["hits"]
    assert [hit["id"] for hit in found] == [ids[1]]
    answer = client.send("POST", f"/collections/{OTHER}/regions", fields=[("regions", "false")])
    assert answer.status == 303
    client.finished(answer.headers["Location"].rpartition("/")[2])
    off = client.call(REGIONS, name=OTHER).json
    assert (off["regions"], off["windows"]) == (False, 0)
    assert "Whole pictures only" not in client.send("GET", f"/?collection={OTHER}").body.decode()
    for value, status in (({}, 422), ({"regions": "yes"}, 422), ({"regions": True, "more": 1}, 422)):
        assert client.call(SWITCH, name=OTHER, value=value).status == status
    assert client.call(SWITCH, name="nowhere", value={"regions": True}).status == 404
    client.call("DELETE /collections/{name}", name=OTHER)
