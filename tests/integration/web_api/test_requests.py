"""Requests that name what is not there, that cannot be, or that come from strangers."""

import json

import pytest

from tests.support.web_client import ADD, PROBLEM, SEARCH, Client


def test_what_does_not_exist_is_named(client: Client, known_id: int) -> None:
    for reply in (
        client.call(SEARCH, name="web-nowhere", value={"id": known_id}),
        client.call("GET /collections/{name}", name="web-nowhere"),
        client.call("GET /collections/{name}/images", name="web-nowhere"),
        client.call("GET /collections/{name}/images/{id}", name="web-nowhere", id=known_id),
        client.call("DELETE /collections/{name}/images/{id}", name="web-nowhere", id=known_id),
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


def test_requests_that_other_sites_make_a_browser_send_are_refused(client: Client, known_id: int) -> None:
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
    ):
        reply = client.call(SEARCH, name="web-api", value={"id": known_id}, headers=headers)
        assert (reply.status, reply.json["code"]) == (403, "cross-site")
        reply = client.call("DELETE /collections/{name}/images/{id}", name="web-api", id=known_id, headers=headers)
        assert reply.status == 403
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": client.url}):
        assert client.call(SEARCH, name="web-api", value={"id": known_id}, headers=headers).status == 200


def test_a_foreign_host_name_is_refused(client: Client) -> None:
    host, _, port = client.url.removeprefix("http://").partition(":")
    assert client.call("GET /collections", headers={"Host": f"elsewhere.example:{port}"}).status == 421
    for name in (host, "localhost", "artseek.localhost", "[::1]"):
        assert client.call("GET /collections", headers={"Host": f"{name}:{port}"}).status == 200


def test_methods_and_places_that_are_not_there(client: Client) -> None:
    reply = client.send("PUT", "/api/v1/collections/default")
    assert (reply.status, reply.kind) == (405, PROBLEM)
    assert set(reply.headers["Allow"].split(", ")) == {"DELETE", "GET", "HEAD", "PATCH"}
    assert client.call("GET /collections/{name}/images", name="default", query={"label": "x" * 9000}).status == 414
    assert client.call("GET /collections", headers={"X-Much": "x" * 9000}).status == 431
    reply = client.send("GET", "/api/v1/nothing")
    assert (reply.status, reply.kind) == (404, PROBLEM)
    assert json.loads(reply.body)["code"] == "not-found"
    reply = client.send("GET", "/nothing")
    assert (reply.status, reply.kind) == (404, "text/html")
