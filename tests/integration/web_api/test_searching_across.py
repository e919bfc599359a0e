"""A search over several collections by the REST API and the command."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import IMAGES, SEARCH, Client, File, picture

ACROSS = "POST /search"
OTHER = "web-across"


@pytest.fixture(scope="module")
def both(client: Client, known: dict[int, tuple[str, bytes]]) -> Iterator[list[str]]:
    """The collection ``web-api`` and another of the same model, which has one of its images too."""
    assert known
    # But for that one, no collection of any other test has them: a page that searches everywhere would name it.
    files = [(f"work {number}.jpg", picture(number)) for number in (5, *range(970, 976))]
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


def test_hits_of_several_collections_are_sorted_and_grouped_as_those_of_one(
    client: Client, stack: Stack, both: list[str], known_id: int
) -> None:
    wanted = {"id": known_id, "k": 13, "mode": "exact", "collections": both}
    plain = client.call(ACROSS, value=wanted).json["hits"]
    assert len(plain) == 13
    labels = [hit["label"] for hit in plain]
    assert sorted(labels) != labels != sorted(labels, reverse=True)  # by likeness alone, they are mixed

    def ranked(label: str) -> list[tuple[int, str]]:
        return [(hit["id"], hit["collection"]) for hit in plain if hit["label"] == label]

    grouped = client.call(ACROSS, value={**wanted, "group": "label"}).json["hits"]
    first, last = dict.fromkeys(labels)
    assert [(hit["id"], hit["collection"]) for hit in grouped] == ranked(first) + ranked(last)
    assert [hit["group"] for hit in grouped] == [hit["label"] for hit in grouped]
    for sort, order in (("label", ["others", "shapes"]), ("-label", ["shapes", "others"])):
        hits = client.call(ACROSS, value={**wanted, "sort": sort}).json["hits"]
        assert [(hit["id"], hit["collection"]) for hit in hits] == ranked(order[0]) + ranked(order[1])
    # A field that images of one of them have: those without it are last.
    edited = next(hit for hit in plain if hit["collection"] == OTHER)
    edit = {"fields": {"creator": ["Ann"]}}
    client.call("PATCH /collections/{name}/images/{id}", name=OTHER, id=edited["id"], value=edit)
    by_creator = eventually(
        lambda: client.call(ACROSS, value={**wanted, "sort": "creator"}), until=lambda reply: reply.status == 200
    )
    first_hit = by_creator.json["hits"][0]
    assert (first_hit["id"], first_hit["collection"]) == (edited["id"], OTHER)
    named = [part for where in both for part in ("--collection", where)]
    arguments = ("search", "--id", str(known_id), *named, "-k", "13", "--mode", "exact", "--group", "label", "--json")
    printed = json.loads(stack.artseek(*arguments))
    assert [(hit["id"], hit["group"]) for hit in printed["hits"]] == [(hit["id"], hit["group"]) for hit in grouped]
    page = client.send("GET", f"/?collection={both[0]}&everywhere=true&id={known_id}&group=label&k=96").body.decode()
    assert '<option value="creator"' in page  # which images of the other collection have
    assert page.index('class="group">') < page.index(f'href="/collections/{OTHER}" title="Collection"')


def test_what_shows_the_same_comes_first_in_whichever_collection(client: Client, stack: Stack) -> None:
    image = client.call(IMAGES, name="default", query={"limit": 1}).json["images"][0]
    work = Image.open(io.BytesIO(client.send("GET", image["image"]).body)).convert("RGB")
    file = io.BytesIO()
    work.crop((work.width // 4, work.height // 4, work.width, work.height)).save(file, "JPEG", quality=80)
    names = ["default", "web-proof-across"]
    client.upload(names[1], [("a part.jpg", file.getvalue())])
    client.wait_for_index(names[1])
    try:
        wanted = {"id": image["id"], "k": 12, "collections": names, "proof": True}
        hits = client.call(ACROSS, value=wanted).json["hits"]
        same = [(hit["collection"], hit["proof"]["same"]) for hit in hits[:2]]
        assert sorted(same) == [(names[0], True), (names[1], True)]
        inliers = [hit["proof"]["inliers"] for hit in hits if hit.get("proof", {}).get("same")]
        assert inliers == sorted(inliers, reverse=True)
        named = [part for name in names for part in ("--collection", name)]
        printed = json.loads(stack.artseek("search", "--id", str(image["id"]), *named, "--proof", "--json"))
        assert {hit["collection"] for hit in printed["hits"] if hit.get("proof", {}).get("same")} == {*names}
        path = f"/?collection=default&everywhere=true&id={image['id']}&proof=true"
        assert 'data-name="a part.jpg"' in client.send("GET", path).body.decode().partition("data-compare")[2]
    finally:
        client.call("DELETE /collections/{name}", name=names[1])


def test_examples_may_lie_in_any_of_the_collections(
    client: Client, stack: Stack, both: list[str], known: dict[int, tuple[str, bytes]]
) -> None:
    images = client.call(IMAGES, name=OTHER, query={"limit": 10}).json["images"]
    first = {image["id"] for image in client.call(IMAGES, name=both[0], query={"limit": 1000}).json["images"]}
    elsewhere = next(image["id"] for image in images if image["id"] not in first)
    own = next(image for image in known if image not in {found["id"] for found in images})
    wanted = {"like": [own, own, elsewhere], "unlike": [images[0]["id"]], "k": 9, "mode": "exact", "collections": both}
    found = client.call(ACROSS, value=wanted)
    assert found.status == 200, found.body
    hits = [(hit["id"], hit["collection"]) for hit in found.json["hits"]]
    assert (own, both[0]) in hits[:2]
    named = [part for where in both for part in ("--collection", where)]
    marks = ["--like", str(own), "--like", str(own), "--like", str(elsewhere), "--unlike", str(images[0]["id"])]
    for environment in ({}, {"ARTSEEK_URL": stack.url}):
        status, printed, told = stack.run(
            "search", *named, *marks, "-k", "9", "--mode", "exact", "--json", **environment
        )
        assert status == 0, told
        assert [(hit["id"], hit["collection"]) for hit in json.loads(printed)["hits"]] == hits
    page = client.send("GET", f"/?collection={both[0]}&everywhere=true&like={own}&unlike={elsewhere}").body.decode()
    examples = page.partition('aria-label="Examples"')[2].partition("</ul>")[0]
    for where, image in ((both[0], own), (OTHER, elsewhere)):
        assert f"/collections/{where}/images/{image}/thumbnail" in examples
        assert client.send("GET", f"/api/v1/collections/{where}/images/{image}/thumbnail").status == 200
    assert 'class="judged"' not in page  # a round of judging is one of a collection
    page = client.send("GET", f"/?collection={both[0]}&everywhere=true&like={own}").body.decode()
    assert 'class="judged"' in page
