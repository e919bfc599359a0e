"""The REST API against the running system; every answer is held against the OpenAPI document."""

import hashlib
import io
import json
import time

import pytest
from PIL import Image

from shared.storage.layout import image_id
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import PROBLEM, Client, File, picture

SEARCH = "POST /collections/{name}/search"
BATCH = "POST /collections/{name}/search-batch"
ADD = "POST /collections/{name}/images"


@pytest.fixture(scope="module")
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.fixture(scope="module")
def known(client: Client) -> dict[int, tuple[str, bytes]]:
    """The images of the collection ``web-api``, by id."""
    files = [(f"work {number}.jpg", picture(number)) for number in range(6)]
    job = client.upload("web-api", files, label="shapes")
    assert (job["added"], job["classes"]) == (6, {"shapes": 6})
    client.wait_for_index("web-api")
    return {image_id(hashlib.sha256(data).hexdigest()): (name, data) for name, data in files}


@pytest.fixture
def one(known: dict[int, tuple[str, bytes]]) -> int:
    return next(iter(known))


# Search


@pytest.mark.parametrize("mode", ["auto", "lsh", "exact"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_an_image_of_the_collection_is_its_own_best_hit(
    client: Client, known: dict[int, tuple[str, bytes]], mode: str, metric: str
) -> None:
    for image, (name, data) in known.items():
        options = {"k": 3, "mode": mode, "metric": metric}
        by_id = client.call(SEARCH, name="web-api", value={"id": image, **options})
        by_file = client.call(
            SEARCH,
            name="web-api",
            fields=[("image", (name, data)), *((key, str(item)) for key, item in options.items())],
        )
        by_body = client.call(SEARCH, name="web-api", query=options, body=data, headers={"Content-Type": "image/jpeg"})
        for reply in (by_id, by_file, by_body):
            assert reply.status == 200, reply.body
            first = reply.json["hits"][0]
            assert (first["id"], first["name"], first["label"]) == (image, name, "shapes")
            assert first["score"] == pytest.approx(1.0, abs=1e-5)
            assert first["distance"] == pytest.approx(0.0, abs=1e-3)
            assert reply.json["metric"] == metric
            assert reply.json["mode"] == ("lsh" if mode == "lsh" else "exact")
            assert reply.json["collection_size"] == 6
            assert 1 <= reply.json["candidates"] <= 6
            assert reply.json["timings_ms"]["total"] > 0
        assert {"decode", "embed"} <= by_file.json["timings_ms"].keys()
        assert [hit["id"] for hit in by_file.json["hits"]] == [hit["id"] for hit in by_body.json["hits"]]


def test_hits_come_best_first_and_lead_to_their_files(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    hits = client.call(SEARCH, name="web-api", value={"id": next(iter(known)), "mode": "exact"}).json["hits"]
    assert sorted(hit["id"] for hit in hits) == sorted(known)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    for hit in hits:
        assert client.send("GET", hit["image"]).body == known[hit["id"]][1]
        thumbnail = Image.open(io.BytesIO(client.send("GET", hit["thumbnail"]).body))
        assert thumbnail.format == "JPEG"
        assert thumbnail.size == (160, 120)


def test_options_in_the_body_count_more_than_those_in_the_query(client: Client, one: int) -> None:
    reply = client.call(SEARCH, name="web-api", query={"k": 5, "metric": "euclidean"}, value={"id": one, "k": 2})
    assert len(reply.json["hits"]) == 2
    assert reply.json["metric"] == "euclidean"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "body.id"),
        ({"id": "1"}, "body.id"),
        ({"id": 0}, "body.id"),
        ({"id": -3}, "body.id"),
        ({"id": 1.5}, "body.id"),
        ({"id": True}, "body.id"),
        ({"id": None}, "body.id"),
        ({"id": 2**53}, "body.id"),
        ({"id": 10**400}, "body.id"),
        ({"id": 1, "k": 0}, "body.k"),
        ({"id": 1, "k": 1001}, "body.k"),
        ({"id": 1, "k": "5"}, "body.k"),
        ({"id": 1, "mode": "fast"}, "body.mode"),
        ({"id": 1, "mode": "\ud800"}, "body.mode"),
        ({"id": 1, "metric": "\x00"}, "body.metric"),
        ({"id": 1, "probes": -1}, "body.probes"),
        ({"id": 1, "probes": 1025}, "body.probes"),
        ({"id": 1, "K": 5}, "body.K"),
        ({"id": 1, "label": "one"}, "body.label"),
        ({"id": 1, "label": ["\x00"]}, "body.label.0"),
        ({"id": 1, "among": [1, 0]}, "body.among.1"),
        ({"id": 1, "like": [1] * 65}, "body.like"),
        ({"id": 1, "unlike": [2**53]}, "body.unlike.0"),
        ({"id": 1, "min_score": 1.5}, "body.min_score"),
        ({"id": 1, "min_score": "0.5"}, "body.min_score"),
        ({"id": 1, "budget": -1}, "body.budget"),
        ({"vector": []}, "body.vector"),
        ({"vector": [1.0, "2"]}, "body.vector.1"),
        ({"vector": [1e39]}, "body.vector.0"),
        ({"vector": [1.0], "id": 1}, "body.vector"),
        ({"like": []}, "body.id"),
        ([], "body"),
        ("text", "body"),
    ],
)
def test_a_value_that_does_not_fit_is_named(client: Client, one: int, value: object, field: str) -> None:
    assert one
    reply = client.call(SEARCH, name="web-api", value=value)
    assert reply.status == 422
    assert reply.kind == PROBLEM
    assert [error["field"] for error in reply.json["errors"]] == [field]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe\xfa",
        b'{"id": NaN}',
        b'{"id": Infinity}',
        b"[" * 60_000,
        b'{"id": ' + b"9" * 5000 + b"}",
        b"\x00",
    ],
)
def test_a_body_that_is_not_json_is_refused(client: Client, body: bytes) -> None:
    reply = client.call(SEARCH, name="web-api", body=body, headers={"Content-Type": "application/json"})
    assert (reply.status, reply.json["code"]) == (400, "malformed")


def test_filters_examples_and_a_cut_off_choose_among_the_images(
    client: Client, known: dict[int, tuple[str, bytes]]
) -> None:
    ids = list(known)
    everything = client.call(SEARCH, name="web-api", value={"id": ids[0], "mode": "exact"}).json["hits"]
    order, scores = [hit["id"] for hit in everything], [hit["score"] for hit in everything]
    cases: list[tuple[dict[str, object], list[int]]] = [
        ({"label": ["shapes"]}, order),
        ({"label": ["others", "shapes"]}, order),
        ({"label": ["others"]}, []),
        ({"label": [""]}, []),
        ({"among": ids[2:4]}, [image for image in order if image in ids[2:4]]),
        ({"among": [7]}, []),
        ({"min_score": scores[2]}, order[:3]),
        ({"budget": 6}, order),
        ({"like": [ids[0]]}, order),
    ]
    for options, wanted in cases:
        for mode in ("exact", "auto"):
            reply = client.call(SEARCH, name="web-api", value={"id": ids[0], "mode": mode, **options})
            assert reply.status == 200, reply.body
            assert [hit["id"] for hit in reply.json["hits"]] == wanted, options
    alone = client.call(SEARCH, name="web-api", value={"like": [ids[0]], "mode": "exact"}).json["hits"]
    assert [hit["id"] for hit in alone] == order
    away = client.call(SEARCH, name="web-api", value={"unlike": [ids[0]], "mode": "exact"}).json["hits"]
    assert away[-1]["id"] == ids[0]
    assert client.call(SEARCH, name="web-api", value={"like": [7]}).status == 404


def test_lists_are_repeated_in_forms_and_addresses(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    ids = list(known)
    name, data = known[ids[0]]
    fields: list[tuple[str, str | File]] = [("image", (name, data)), *(("among", str(image)) for image in ids[:2])]
    by_form = client.call(SEARCH, name="web-api", fields=[*fields, ("label", "others"), ("label", "shapes")])
    assert sorted(hit["id"] for hit in by_form.json["hits"]) == sorted(ids[:2])
    target = f"/api/v1/collections/web-api/search?among={ids[0]}&among={ids[1]}&min_score=0.999"
    reply = client.send("POST", target, body=data, headers={"Content-Type": "image/jpeg"})
    assert [hit["id"] for hit in reply.json["hits"]] == [ids[0]]
    for wrong in ("min_score=nan", "min_score=2", "min_score=1_0", "among=x", "budget=-1", "like=0"):
        reply = client.send(
            "POST",
            f"/api/v1/collections/web-api/search?{wrong}",
            body=data,
            headers={"Content-Type": "image/jpeg"},
        )
        assert reply.status == 422, wrong
        assert reply.json["errors"][0]["field"].startswith("query." + wrong.partition("=")[0])


def test_as_many_ids_as_may_be_given_are_taken(client: Client, one: int) -> None:
    among = [one, *range(2**52, 2**52 + 99_999)]
    reply = client.call(SEARCH, name="web-api", value={"id": one, "among": among})
    assert [hit["id"] for hit in reply.json["hits"]] == [one]


def test_an_embedding_of_another_length_is_refused(client: Client, one: int) -> None:
    assert one
    reply = client.call(SEARCH, name="web-api", value={"vector": [0.5] * 100})
    assert (reply.status, reply.json["code"]) == (422, "invalid")
    assert "expected 1280" in reply.json["detail"]
    assert len(client.call(SEARCH, name="web-api", value={"vector": [0.5] * 1280}).json["hits"]) == 6


def test_a_batch_answers_each_query_as_a_search_would(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    ids = list(known)
    for options in ({"k": 3, "mode": "exact"}, {"mode": "lsh", "metric": "euclidean", "label": ["shapes"]}):
        reply = client.call(BATCH, name="web-api", value={"ids": ids, **options})
        assert reply.status == 200, reply.body
        for image, answer in zip(ids, reply.json["answers"], strict=True):
            alone = client.call(SEARCH, name="web-api", value={"id": image, **options}).json
            assert {**answer, "timings_ms": {}} == {**alone, "timings_ms": {}}
    vectors = [[0.5] * 1280, [-0.5, 0.5] * 640]
    answers = client.call(BATCH, name="web-api", value={"vectors": vectors, "k": 2}).json["answers"]
    for vector, answer in zip(vectors, answers, strict=True):
        assert answer["hits"] == client.call(SEARCH, name="web-api", value={"vector": vector, "k": 2}).json["hits"]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "body.ids"),
        ({"ids": []}, "body.ids"),
        ({"ids": [1], "vectors": [[1.0]]}, "body.ids"),
        ({"ids": [1] * 257}, "body.ids"),
        ({"ids": [0]}, "body.ids.0"),
        ({"vectors": [[]]}, "body.vectors.0"),
        ({"ids": [1] * 200, "k": 1000}, "body.k"),
        ({"ids": [1], "id": 1}, "body.id"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(client: Client, one: int, value: object, field: str) -> None:
    assert one
    reply = client.call(BATCH, name="web-api", value=value)
    assert reply.status == 422
    assert [error["field"] for error in reply.json["errors"]] == [field]
    assert client.call(BATCH, name="web-api", body=b"1", headers={"Content-Type": "text/plain"}).status == 415
    assert client.call(BATCH, name="web-api", value={"ids": [12345]}).status == 404


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "image/svg+xml", "nonsense", ""])
def test_another_kind_of_body_is_refused(client: Client, kind: str) -> None:
    reply = client.call(SEARCH, name="web-api", body=b"x", headers={"Content-Type": kind})
    assert (reply.status, reply.json["code"]) == (415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"just some text", "not-an-image"),
        (b"<!doctype html><title>404</title>", "not-an-image"),
        (b"%PDF-1.7 ...", "format"),
        (picture(1)[:900], "truncated"),
        (b"", "empty"),
    ],
)
def test_a_query_that_is_no_image_is_refused_with_its_reason(client: Client, one: int, data: bytes, code: str) -> None:
    assert one
    reply = client.call(SEARCH, name="web-api", fields=[("image", ("query.jpg", data))])
    assert (reply.status, reply.json["code"]) == (422, code)
    reply = client.call(SEARCH, name="web-api", body=data, headers={"Content-Type": "image/png"})
    assert (reply.status, reply.json["code"]) == (422, code)


def test_a_form_is_checked_as_strictly(client: Client, one: int) -> None:
    file = ("query.jpg", picture(0))
    assert one
    cases: list[tuple[list[tuple[str, str | File]], str]] = [
        ([("k", "3")], "body.image"),
        ([("image", file), ("image", file)], "body.image"),
        ([("image", file), ("picture", file)], "body.picture"),
        ([("image", file), ("k", "3"), ("k", "4")], "body.k"),
        ([("image", file), ("k", "3.5")], "body.k"),
        ([("image", file), ("k", "³")], "body.k"),
        ([("image", file), ("k", "1_0")], "body.k"),
        ([("image", file), ("depth", "3")], "body.depth"),
        ([("image", "not a file")], "body.image"),
    ]
    for fields, field in cases:
        reply = client.call(SEARCH, name="web-api", fields=fields)
        assert reply.status == 422, fields
        assert [error["field"] for error in reply.json["errors"]] == [field]


@pytest.mark.parametrize(
    "body", [b"", b"--x", b"--x\r\n\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--", b"\x00" * 1000]
)
@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=x", "multipart/form-data; boundary="]
)
def test_a_broken_form_is_refused(client: Client, one: int, body: bytes, kind: str) -> None:
    assert one
    for operation in (SEARCH, ADD):
        reply = client.call(operation, name="web-api", body=body, headers={"Content-Type": kind})
        assert reply.status in {400, 422}
        assert reply.kind == PROBLEM


def test_what_does_not_exist_is_named(client: Client, one: int) -> None:
    for reply in (
        client.call(SEARCH, name="web-nowhere", value={"id": one}),
        client.call("GET /collections/{name}", name="web-nowhere"),
        client.call("GET /collections/{name}/images", name="web-nowhere"),
        client.call("GET /collections/{name}/images/{id}", name="web-nowhere", id=one),
        client.call("DELETE /collections/{name}/images/{id}", name="web-nowhere", id=one),
    ):
        assert reply.status == 404
        assert "web-nowhere" in reply.json["detail"]
    for operation in (
        "GET /collections/{name}/images/{id}",
        "GET /collections/{name}/images/{id}/original",
        "GET /collections/{name}/images/{id}/thumbnail",
        "DELETE /collections/{name}/images/{id}",
    ):
        reply = client.call(operation, name="web-api", id=12345)
        assert reply.status == 404
        assert "12345" in reply.json["detail"]
    assert client.call(SEARCH, name="web-api", value={"id": 12345}).status == 404
    assert client.call("GET /jobs/{id}", id="0123abcd").status == 404


@pytest.mark.parametrize("name", ["Web", "web api", "%00", "é", "a" * 64, "-a", "\U0001f5bc"])
def test_a_name_that_cannot_be_is_refused(client: Client, name: str) -> None:
    for operation in ("GET /collections/{name}", SEARCH, ADD):
        reply = client.call(operation, name=name, body=b"{}" if "POST" in operation else None)
        assert reply.status == 422
        assert reply.json["errors"][0]["field"] == "path.name"


@pytest.mark.parametrize("image", ["0", "-1", "1.0", "abc", str(2**53), "9" * 400, "1e3", "%00", "\U0001f5bc"])
def test_an_id_that_cannot_be_is_refused(client: Client, image: str) -> None:
    reply = client.call("GET /collections/{name}/images/{id}", name="web-api", id=image)
    assert reply.status == 422
    assert reply.json["errors"][0]["field"] == "path.id"


# Images


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
    assert "immutable" in reply.headers["Cache-Control"]
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


def test_an_upload_of_which_nothing_can_be_taken_is_refused(client: Client) -> None:
    reply = client.call(
        ADD, name="web-refused", fields=[("images", ("a.jpg", b"text")), ("images", ("b.svg", b"<svg/>"))]
    )
    assert reply.status == 422
    assert [item["name"] for item in reply.json["rejected"]] == ["a.jpg", "b.svg"]
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


def test_a_deleted_image_is_gone_at_once(client: Client) -> None:
    first, second = picture(201), picture(202)
    client.upload("web-deletes", [("first.jpg", first), ("second.jpg", second)])
    image = image_id(hashlib.sha256(first).hexdigest())
    begun = time.monotonic()
    reply = client.call("DELETE /collections/{name}/images/{id}", name="web-deletes", id=image)
    if reply.status == 202:  # on a busy machine, after the time for which the answer is held back
        assert time.monotonic() - begun >= 5.0
        client.finished(reply.json["job"])
        eventually(lambda: client.call("GET /collections/{name}", name="web-deletes").json["images"] == 1)
    else:
        assert reply.status == 204
    for leaf in ("", "/original", "/thumbnail"):
        gone = client.call("GET /collections/{name}/images/{id}" + leaf, name="web-deletes", id=image)
        assert gone.status == 404
    for mode in ("lsh", "exact"):
        fields = [("image", ("q.jpg", first)), ("mode", mode)]
        hits = client.call(SEARCH, name="web-deletes", fields=fields).json["hits"]
        assert image not in [hit["id"] for hit in hits]
    assert client.call("DELETE /collections/{name}/images/{id}", name="web-deletes", id=image).status == 404
    assert client.call("GET /collections/{name}", name="web-deletes").json["images"] == 1


def test_collections_tell_what_is_in_them(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    found = client.call("GET /collections/{name}", name="web-api").json
    assert (found["images"], found["labelled"], found["classes"]) == (6, 6, {"shapes": 6})
    assert found["bytes"] == sum(len(data) for _, data in known.values())
    assert (found["model"], found["dim"]) == ("efficientnet-lite0", 1280)
    assert found in client.call("GET /collections").json["collections"]


# Limits and strangers


def test_a_query_image_of_too_many_bytes_is_refused(client: Client, stack: Stack, one: int) -> None:
    assert one
    data = b"\xff\xd8\xff" + b"\x00" * stack.settings.max_file_bytes
    reply = client.call(SEARCH, name="web-api", fields=[("image", ("large.jpg", data))])
    assert (reply.status, reply.json["code"]) == (413, "too-large")
    reply = client.call(ADD, name="web-api", fields=[("images", ("large.jpg", data))])
    assert (reply.status, reply.json["rejected"][0]["code"]) == (422, "too-large")


def test_requests_that_other_sites_make_a_browser_send_are_refused(client: Client, one: int) -> None:
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
    ):
        reply = client.call(SEARCH, name="web-api", value={"id": one}, headers=headers)
        assert (reply.status, reply.json["code"]) == (403, "cross-site")
        reply = client.call("DELETE /collections/{name}/images/{id}", name="web-api", id=one, headers=headers)
        assert reply.status == 403
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": client.url}):
        assert client.call(SEARCH, name="web-api", value={"id": one}, headers=headers).status == 200


def test_a_foreign_host_name_is_refused(client: Client) -> None:
    host, _, port = client.url.removeprefix("http://").partition(":")
    assert client.call("GET /collections", headers={"Host": f"elsewhere.example:{port}"}).status == 421
    for name in (host, "localhost", "artseek.localhost", "[::1]"):
        assert client.call("GET /collections", headers={"Host": f"{name}:{port}"}).status == 200


def test_methods_and_places_that_are_not_there(client: Client) -> None:
    reply = client.send("PUT", "/api/v1/collections/default")
    assert (reply.status, reply.kind) == (405, PROBLEM)
    assert set(reply.headers["Allow"].split(", ")) == {"GET", "HEAD"}
    assert client.call("GET /collections/{name}/images", name="default", query={"label": "x" * 9000}).status == 414
    assert client.call("GET /collections", headers={"X-Much": "x" * 9000}).status == 431
    reply = client.send("GET", "/api/v1/nothing")
    assert (reply.status, reply.kind) == (404, PROBLEM)
    assert json.loads(reply.body)["code"] == "not-found"
    reply = client.send("GET", "/nothing")
    assert (reply.status, reply.kind) == (404, "text/html")
