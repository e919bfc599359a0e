"""Sites of other hosts that may read what is public, by the browser's rules on cross-origin requests."""

from typing import Final

import pytest

from shared.access import CollectionAccess, Grant
from tests.support.gated_web import Door

API: Final = "/api/v1"
SITE: Final = {"Origin": "https://museum.example", "Sec-Fetch-Site": "cross-site"}


@pytest.fixture(scope="module")
def shown_elsewhere() -> Door:
    return Door({"open": CollectionAccess("public", "private")}, cors_origins="https://museum.example")


def test_named_sites_may_look_at_what_is_public(shown_elsewhere: Door) -> None:
    client, admin = shown_elsewhere.client, shown_elsewhere.key(Grant("admin"))
    answer = client.get(f"{API}/collections/open", headers=SITE)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://museum.example")
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Origin" in answer.vary
    assert client.post(f"{API}/collections/open/search", json={"id": 1}, headers=SITE).status_code == 503  # let through
    for headers in (SITE, SITE | admin):  # what comes along does not count
        assert client.get(f"{API}/collections/art", headers=headers).status_code == 401
        assert client.get(f"{API}/jobs", headers=headers).status_code == 401
        assert client.delete(f"{API}/collections/open", headers=headers).status_code == 403
        assert client.post("/search", data={"collection": "open"}, headers=headers).status_code == 403
        assert client.post("/log-out", headers=headers).status_code == 403


def test_browsers_ask_first(shown_elsewhere: Door) -> None:
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    answer = shown_elsewhere.client.options(f"{API}/collections/open/search", headers=SITE | asking)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Methods"]) == (204, "GET, POST")
    assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"
    for origin in ("https://evil.example", "null", "https://museum.example.evil.example", "http://museum.example"):
        headers = SITE | {"Origin": origin}
        assert (
            "Access-Control-Allow-Origin"
            not in shown_elsewhere.client.options(f"{API}/collections/open", headers=headers | asking).headers
        )
        answer = shown_elsewhere.client.get(f"{API}/collections/open", headers=headers)
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert shown_elsewhere.client.post(f"{API}/collections/open/search", headers=headers).status_code == 403
