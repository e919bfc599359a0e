"""Images by the REST API: their entries, lists, originals and uploads."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from shared.storage.layout import image_id
from tests.support.web_client import ADD, Client, picture


def test_an_entry_tells_what_came_in(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    for image, (name, data) in known.items():
        entry = client.call("GET /collections/{name}/images/{id}", name="web-api", id=image).json
        assert entry["name"] == name
        assert entry["digest"] == hashlib.sha256(data).hexdigest()
        assert (entry["size"], entry["width"], entry["height"]) == (len(data), 160, 120)
        assert entry["media_type"] == "image/jpeg"


def test_images_are_listed_in_parts_and_by_class(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    seen: list[int] = []
    for offset in range(0, 8, 2):
        part = client.call("GET /collections/{name}/images", name="web-api", query={"limit": 2, "offset": offset}).json
        assert part["total"] == 6
        seen += [image["id"] for image in part["images"]]
    assert sorted(seen) == sorted(known)
    shapes = client.call("GET /collections/{name}/images", name="web-api", query={"label": "shapes"}).json
    nothing = client.call("GET /collections/{name}/images", name="web-api", query={"label": "Shapes"}).json
    assert (shapes["total"], nothing["total"]) == (6, 0)
    for query in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"offset": 2**60}, {"lable": "x"}, {"label": "a\nb"}):
        assert client.call("GET /collections/{name}/images", name="web-api", query=query).status == 422


def test_an_original_comes_back_as_it_was_and_harmless(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    image, (name, data) = next(iter(known.items()))
    reply = client.call("GET /collections/{name}/images/{id}/original", name="web-api", id=image)
    assert reply.body == data
    assert reply.kind == "image/jpeg"
    assert reply.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    assert reply.headers["Cache-Control"] == "private, no-cache"  # a browser asks whether it was purged
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in reply.headers["Content-Security-Policy"]
    assert f"filename*=UTF-8''{name.replace(' ', '%20')}" in reply.headers["Content-Disposition"]
    for leaf in ("original", "thumbnail"):
        operation = "GET /collections/{name}/images/{id}/" + leaf
        tag = client.call(operation, name="web-api", id=image).headers["ETag"]
        again = client.call(operation, name="web-api", id=image, headers={"If-None-Match": tag})
        assert (again.status, again.body) == (304, b"")
        other = client.call(operation, name="web-api", id=image, headers={"If-None-Match": '"other"'})
        assert other.status == 200


def test_a_tile_is_a_part_of_the_original(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    image, (_, data) = next(iter(known.items()))
    tile = "GET /collections/{name}/images/{id}/tiles/{level}/{x}_{y}"
    reply = client.call(tile, name="web-api", id=image, level=8, x=0, y=0)
    assert reply.kind == "image/jpeg"
    found, wanted = (np.asarray(Image.open(io.BytesIO(file))).astype(int) for file in (reply.body, data))
    assert found.shape == wanted.shape == (120, 160, 3)
    assert np.abs(found - wanted).mean() < 3
    assert Image.open(io.BytesIO(client.call(tile, name="web-api", id=image, level=6, x=0, y=0).body)).size == (40, 30)
    again = {"If-None-Match": reply.headers["ETag"]}
    assert client.call(tile, name="web-api", id=image, level=8, x=0, y=0, headers=again).status == 304
    assert client.call(tile, name="web-api", id=image, level=7, x=0, y=0, headers=again).status == 200
    for place, word in (((9, 0, 0), "its last is 8"), ((8, 1, 0), "1 x 1 tiles"), ((8, 0, 1), "1 x 1 tiles")):
        missing = client.call(tile, name="web-api", id=image, level=place[0], x=place[1], y=place[2])
        assert (missing.status, word in missing.json["detail"]) == (404, True)
    assert client.call(tile, name="web-api", id=image, level=32, x=0, y=0).status == 422


def test_every_file_is_added_or_counted_or_refused_with_its_reason(client: Client) -> None:
    new = [
        ("a.png", picture(101, form="PNG")),
        ("b.webp", picture(102, form="WEBP")),
        ("c.bmp", picture(103, form="BMP")),
    ]
    first = client.upload("web-sorts", new)
    assert (first["added"], first["duplicates"], first["rejected"]) == (3, 0, [])
    # The header of the last file is sound: only decoding shows what it is.
    files = [
        *new[:2],
        ("d.gif", picture(104, form="GIF")),
        ("e.jpg", b"no image"),
        ("f.jpg", b""),
        ("g.jpg", picture(105)[:800]),
    ]
    reply = client.call(ADD, name="web-sorts", fields=[("images", file) for file in files])
    assert reply.status == 202
    assert reply.headers["Location"] == reply.json["url"]
    assert [(item["name"], item["code"]) for item in reply.json["rejected"]] == [
        ("e.jpg", "not-an-image"),
        ("f.jpg", "empty"),
    ]
    job = client.finished(reply.json["job"])
    assert (job["total"], job["finished"], job["added"], job["duplicates"]) == (6, 6, 1, 2)
    assert {item["name"]: item["code"] for item in job["rejected"]} == {
        "e.jpg": "not-an-image", "f.jpg": "empty", "g.jpg": "truncated",
    }  # fmt: skip
    assert all(item["reason"] for item in job["rejected"])
    assert len(client.wait_for("web-sorts", 4)) == 4


def test_images_that_are_there_keep_their_labels_if_asked_to(client: Client) -> None:
    data = picture(451)
    client.upload("web-keeps", [("a.png", data)], label="first")
    fields: list[tuple[str, str | tuple[str, bytes]]] = [("images", ("a.png", data)), ("label", "second")]
    job = client.call(
        "POST /collections/{name}/images", name="web-keeps", fields=[*fields, ("keep_labels", "true")]
    ).json["job"]
    kept = client.finished(job)
    assert (kept["relabelled"], kept["labels_kept"]) == (0, 1)
    assert client.upload("web-keeps", [("a.png", data)], label="third")["relabelled"] == 1
    wrong = [*fields, ("keep_labels", "perhaps")]
    assert client.call("POST /collections/{name}/images", name="web-keeps", fields=wrong).status == 422


def test_an_upload_of_which_nothing_can_be_taken_is_refused(client: Client) -> None:
    reply = client.call(
        ADD, name="web-refused", fields=[("images", ("a.jpg", b"text")), ("images", ("b.svg", b"<svg/>"))]
    )
    assert reply.status == 422
    assert [item["name"] for item in reply.json["rejected"]] == ["a.jpg", "b.svg"]
    twice = client.call(ADD, name="web-refused", fields=[("images", ("a.jpg", b"text"))] * 2)
    assert [item["name"] for item in twice.json["rejected"]] == ["a.jpg", "a (2).jpg"]
    assert client.call(ADD, name="web-refused", fields=[("label", "x")]).status == 422
    assert client.call("GET /collections/{name}", name="web-refused").status == 404


@pytest.mark.parametrize("label", ["x" * 201, "a\nb", "a\x00b"])
def test_a_label_that_does_not_fit_is_refused(client: Client, label: str) -> None:
    reply = client.call(ADD, name="web-refused", fields=[("images", ("a.jpg", picture(1))), ("label", label)])
    assert (reply.status, reply.json["errors"][0]["field"]) == (422, "body.label")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd.jpg", "passwd.jpg"),
        ("b\u202egpj.exe", "bgpj.exe"),
        ("ö" * 400 + ".jpg", "ö" * 196 + ".jpg"),
        ("<b>&\"'.jpg", "<b>&\"'.jpg"),
    ],
)
def test_names_are_shown_and_sent_back_but_never_paths(client: Client, sent: str, kept: str) -> None:
    data = picture(sum(map(ord, sent)))
    client.upload("web-names", [(sent, data)])
    image = image_id(hashlib.sha256(data).hexdigest())
    client.wait_for("web-names", 1)
    entry = client.call("GET /collections/{name}/images/{id}", name="web-names", id=image).json
    assert entry["name"] == kept
    reply = client.call("GET /collections/{name}/images/{id}/original", name="web-names", id=image)
    assert reply.headers["Content-Disposition"].isascii()
    assert "\n" not in reply.headers["Content-Disposition"]
