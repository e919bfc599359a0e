"""What searches refuse, by the name of what does not fit."""

import pytest

from tests.support.stack import Stack
from tests.support.web_client import ADD, BATCH, PROBLEM, SEARCH, Client, File, picture


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
        ({"vector": [1.0], "url": "http://pictures.example/a.png"}, "body.vector"),
        ({"id": 1, "url": "http://pictures.example/a.png"}, "body.url"),
        ({"url": "h" * 5000}, "body.url"),
        ({"id": 1, "box": "1,2,3"}, "body.box"),
        ({"id": 1, "box": "pct:60,0,50,10"}, "body.box"),
        ({"id": 1, "box": [1, 2, 3, 4]}, "body.box"),
        ({"like": []}, "body.id"),
        ([], "body"),
        ("text", "body"),
    ],
)
def test_a_value_that_does_not_fit_is_named(client: Client, known_id: int, value: object, field: str) -> None:
    assert known_id
    reply = client.call(SEARCH, name="web-api", value=value)
    assert reply.status == 422
    assert reply.kind == PROBLEM
    assert [error["field"] for error in reply.json["errors"]] == [field]


@pytest.mark.parametrize("box", ["0,0,7,7", "0,0,5000,20", "pct:0,0,1,1"])
def test_a_box_that_does_not_fit_the_image_is_refused(client: Client, known_id: int, box: str) -> None:
    reply = client.call(SEARCH, name="web-api", value={"id": known_id, "box": box})
    assert (reply.status, reply.json["code"]) == (422, "invalid")
    assert "pixels" in reply.json["detail"]
    alone = client.call(SEARCH, name="web-api", value={"like": [known_id], "box": "0,0,20,20"})
    assert (alone.status, "picture" in alone.json["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://169.254.169.254/latest/meta-data/", "not-fetched"),
        ("http://localhost/", "not-fetched"),
        ("ftp://pictures.example/a.png", "address"),
        ("{stack.url}/", "not-an-image"),
    ],
)
def test_an_address_without_a_picture_is_refused_with_its_reason(
    client: Client, known_id: int, stack: Stack, url: str, code: str
) -> None:
    assert known_id
    reply = client.call(SEARCH, name="web-api", value={"url": url.format(stack=stack)})
    assert (reply.status, reply.kind, reply.json["code"]) == (422, PROBLEM, code)


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


def test_an_embedding_of_another_length_is_refused(client: Client, known_id: int) -> None:
    assert known_id
    reply = client.call(SEARCH, name="web-api", value={"vector": [0.5] * 100})
    assert (reply.status, reply.json["code"]) == (422, "invalid")
    assert "expected 1280" in reply.json["detail"]
    assert len(client.call(SEARCH, name="web-api", value={"vector": [0.5] * 1280}).json["hits"]) == 6


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
def test_a_batch_that_does_not_fit_is_refused(client: Client, known_id: int, value: object, field: str) -> None:
    assert known_id
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
        (b"%PDF-1.7 ...", "corrupt"),
        (picture(1)[:900], "truncated"),
        (b"", "empty"),
    ],
)
def test_a_query_that_is_no_image_is_refused_with_its_reason(
    client: Client, known_id: int, data: bytes, code: str
) -> None:
    assert known_id
    reply = client.call(SEARCH, name="web-api", fields=[("image", ("query.jpg", data))])
    assert (reply.status, reply.json["code"]) == (422, code)
    reply = client.call(SEARCH, name="web-api", body=data, headers={"Content-Type": "image/png"})
    assert (reply.status, reply.json["code"]) == (422, code)


def test_a_form_is_checked_as_strictly(client: Client, known_id: int) -> None:
    file = ("query.jpg", picture(0))
    assert known_id
    cases: list[tuple[list[tuple[str, str | File]], str]] = [
        ([("k", "3")], "body.image"),
        ([("image", file)] * 17, "body.image"),
        ([("image", file), ("image", file), ("box", "pct:0,0,50,50")], "body.box"),
        ([("image", file), ("image", file), ("proof", "true")], "body.proof"),
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
def test_a_broken_form_is_refused(client: Client, known_id: int, body: bytes, kind: str) -> None:
    assert known_id
    for operation in (SEARCH, ADD):
        reply = client.call(operation, name="web-api", body=body, headers={"Content-Type": kind})
        assert reply.status in {400, 422}
        assert reply.kind == PROBLEM


def test_a_query_image_of_too_many_bytes_is_refused(client: Client, stack: Stack, known_id: int) -> None:
    assert known_id
    data = b"\xff\xd8\xff" + b"\x00" * stack.settings.max_query_bytes
    reply = client.call(SEARCH, name="web-api", fields=[("image", ("large.jpg", data))])
    assert (reply.status, reply.json["code"]) == (413, "too-large")
