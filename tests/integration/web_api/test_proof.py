"""Proof by the REST API and the command: which hits show the same as the query, and where."""

import io
import json

import pytest
from PIL import Image, ImageOps

from shared.storage import layout
from shared.storage.object_store import ObjectStore
from tests.support.stack import Stack
from tests.support.web_client import IMAGES, PROOF, SEARCH, Client

NAME = "default"  # the sample gallery


@pytest.fixture(scope="module")
def works(client: Client) -> list[tuple[int, Image.Image]]:
    """Two works of the gallery."""
    images = client.call(IMAGES, name=NAME, query={"limit": 2}).json["images"]
    return [
        (int(image["id"]), Image.open(io.BytesIO(client.send("GET", image["image"]).body)).convert("RGB"))
        for image in images
    ]


def jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=60)
    return file.getvalue()


def test_a_mirrored_detail_finds_its_work_first_and_says_where(
    client: Client, works: list[tuple[int, Image.Image]]
) -> None:
    image_id, work = works[0]
    left, top, width, height = work.width // 4, work.height // 4, work.width // 2, work.height // 2
    detail = ImageOps.mirror(work.crop((left, top, left + width, top + height)))
    found = client.call(
        SEARCH, name=NAME, query={"proof": "true", "k": 30}, body=jpeg(detail), headers={"Content-Type": "image/jpeg"}
    )
    assert found.status == 200, found.body
    hits = found.json["hits"]
    first = hits[0]
    assert (first["id"], first["proof"]["same"], first["proof"]["mirrored"]) == (image_id, True, True)
    for told, known in zip(first["proof"]["box"], (left, top, width, height), strict=True):
        assert abs(told - known) <= 0.1 * max(width, height)
    assert first["proof"]["query_box"][2] == pytest.approx(width, rel=0.1)
    # The first twenty are compared, and the others are left as they are.
    assert all(("proof" in hit) == (place < 20) for place, hit in enumerate(hits))
    inliers = [hit["proof"]["inliers"] for hit in hits if "proof" in hit and hit["proof"]["same"]]
    assert inliers == sorted(inliers, reverse=True)
    plain = client.call(SEARCH, name=NAME, value={"id": image_id, "k": 3})
    assert all("proof" not in hit for hit in plain.json["hits"])


def test_a_box_of_the_query_is_told_in_pixels_of_its_original(
    client: Client, works: list[tuple[int, Image.Image]]
) -> None:
    image_id, work = works[0]
    box = [work.width // 10, work.height // 10, work.width * 8 // 10, work.height * 8 // 10]
    value = {"id": image_id, "box": ",".join(map(str, box)), "proof": True, "k": 12}
    first = client.call(SEARCH, name=NAME, value=value).json["hits"][0]
    assert first["id"] == image_id
    for name in ("box", "query_box"):
        for told, known in zip(first["proof"][name], box, strict=True):
            assert abs(told - known) <= 0.1 * max(box[2:])


def test_two_images_are_compared(client: Client, works: list[tuple[int, Image.Image]], stack: Stack) -> None:
    (first, work), (second, _) = works
    same = client.call(PROOF, name=NAME, value={"a": first, "b": first}).json
    assert (same["same"], same["box"], same["reason"]) == (True, [0, 0, work.width, work.height], None)
    other = client.call(PROOF, name=NAME, value={"a": first, "b": second}).json
    assert (other["same"], other["box"]) == (False, None)
    assert other["reason"]
    assert client.call(PROOF, name=NAME, value={"a": first, "b": 1}).status == 404
    assert client.call(SEARCH, name=NAME, value={"like": [first], "proof": True}).status == 422
    assert json.loads(stack.artseek("compare", str(first), str(first), "--json")) == same
    assert "same" in stack.artseek("search", "--id", str(first), "-k", "2", "--proof")
    kept = ObjectStore.from_settings(stack.settings).list(layout.FEATURES)
    assert {first, second} <= {layout.image_id(item.key.removeprefix(layout.FEATURES)) for item in kept}
