"""The service behind proxies and under names: what a request means there, and whose it is."""

import json
import re
from typing import Any

import pytest
from flask import Flask, request

from services.web.access import OPEN
from services.web.access.gate import current_gate
from services.web.app import create_app
from services.web.forwarded import client_address
from services.web.public_address import HostNames, cookies_are_secure
from shared.addresses import networks
from shared.errors import Invalid
from shared.schemas.urls import job_url
from shared.settings import Settings

PUBLIC = {"public_url": "https://archive.example/artseek", "trusted_proxies": "127.0.0.1"}


def app_with(**values: str) -> Flask:
    app = create_app(Settings(**values))  # type: ignore[arg-type]

    @app.route("/seen", methods=["GET", "POST"])
    def seen() -> str:
        return json.dumps([request.url_root, request.remote_addr, job_url("1"), dict(request.headers)])

    with app.app_context():
        current_gate().rules["seen"] = OPEN
    return app


def ask(app: Flask, path: str = "/seen", *, method: str = "GET", peer: str = "127.0.0.1", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client().open(path, method=method, headers=named, environ_base={"REMOTE_ADDR": peer})


@pytest.mark.parametrize("path", ["/seen", "/artseek/seen"])
@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "archive.example"])
def test_a_proxy_may_hand_on_any_host_and_the_prefix_or_not(path: str, host: str) -> None:
    answer = ask(app_with(**PUBLIC), path, Host=host, X_Forwarded_For="203.0.113.7")
    root, client, job, _ = json.loads(answer.data)
    assert (root, client) == ("https://archive.example/artseek/", "203.0.113.7")
    assert job == "/artseek/api/v1/jobs/1"


def test_a_page_links_below_the_prefix() -> None:
    app = app_with(**PUBLIC)
    page = ask(app, "/artseek/nothing").get_data(as_text=True)
    assert re.search(r'href="/artseek/static/[0-9a-f]{16}/artseek\.css"', page)
    assert 'href="/artseek/"' in page
    document = ask(app, "/artseek/api/v1/openapi.json").json
    assert document["servers"] == [{"url": "/artseek/api/v1"}]
    assert app.config["APPLICATION_ROOT"] == "/artseek"
    assert app.config["SESSION_COOKIE_SECURE"] is True


def test_without_a_public_address_paths_begin_at_the_root() -> None:
    root, _, job, _ = json.loads(ask(app_with(), Host="127.0.0.1:8080").data)
    assert (root, job) == ("http://127.0.0.1:8080/", "/api/v1/jobs/1")


def test_what_strangers_claim_of_a_request_is_dropped() -> None:
    claims = {
        "X_Forwarded_For": "203.0.113.7",
        "X_Forwarded_Host": "evil.example",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Prefix": "/evil",
        "Forwarded": "for=203.0.113.7;host=evil.example",
        "X_Real_Ip": "203.0.113.7",
    }
    for values, peer in (({}, "127.0.0.1"), (PUBLIC, "198.51.100.1")):
        root, client, _, headers = json.loads(ask(app_with(**values), peer=peer, Host="127.0.0.1", **claims).data)
        assert client == peer
        assert "evil" not in root
        assert not {"Forwarded", "X-Real-Ip"} & headers.keys()
        assert not any(name.startswith("X-Forwarded") for name in headers)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("198.51.100.1", "203.0.113.7", "198.51.100.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "1.1.1.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("127.0.0.1", "10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "1.1.1.1, nonsense, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "203.0.113.7:5123", "203.0.113.7"),
        ("127.0.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("::ffff:127.0.0.1", "2001:db8::7", "2001:db8::7"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxy(peer: str, forwarded: str, client: str) -> None:
    assert client_address(peer, forwarded, networks("127.0.0.1,10.0.0.0/8")) == client


LISTED = {"allowed_hosts": "web,*.example.org"}
ELSEWHERE = {"web_listen": "192.0.2.1:80"}


@pytest.mark.parametrize(
    ("values", "taken", "refused"),
    [
        ({}, ["127.0.0.1:8080", "localhost:1", "a.localhost", "[::1]:8080", "192.0.2.1"], ["archive.example", "web"]),
        (ELSEWHERE, ["127.0.0.1:8080", "192.0.2.1", "localhost"], ["archive.example", "evil.example:80", ""]),
        (PUBLIC, ["archive.example", "Archive.Example.", "127.0.0.1"], ["evil.archive.example", "example"]),
        (LISTED, ["web:8080", "a.example.org", "b.a.example.org"], ["example.org", "evilexample.org", "web.evil"]),
        ({"web_listen": "art.example:8080"}, ["art.example:8080"], ["example"]),
    ],
)
def test_the_service_goes_by_known_names_and_by_addresses(
    values: dict[str, str], taken: list[str], refused: list[str]
) -> None:
    names = HostNames(Settings(**values))  # type: ignore[arg-type]
    assert [host for host in taken if not names.allow(host)] == []
    assert [host for host in refused if names.allow(host)] == []


@pytest.mark.parametrize("values", [{}, ELSEWHERE, PUBLIC])
def test_a_foreign_name_is_refused_wherever_the_service_listens(values: dict[str, str]) -> None:
    answer = ask(app_with(**values), Host="evil.example:8080")
    assert answer.status_code == 421
    assert "ARTSEEK_ALLOWED_HOSTS" in answer.get_data(as_text=True)


@pytest.mark.parametrize("peer", ["127.0.0.1", "198.51.100.1"])
def test_a_page_of_the_public_address_may_send_what_changes_things(peer: str) -> None:
    app = app_with(**PUBLIC)

    def status(origin: str) -> int:
        answer = ask(app, method="POST", peer=peer, Host="127.0.0.1:8080", Origin=origin)
        return int(answer.status_code)

    assert status("https://archive.example") == 200
    for origin in ("http://archive.example", "https://archive.example:444", "https://evil.example", "null"):
        assert status(origin) == 403


def test_cookies_are_for_https_alone_if_the_public_address_is() -> None:
    def secure(public: str, base_url: str) -> bool:
        with create_app(Settings(public_url=public)).test_request_context(base_url=base_url):  # type: ignore[call-arg]
            return cookies_are_secure()

    # A proxy that nobody named may hand on neither host nor scheme.
    assert secure("https://archive.example", "http://127.0.0.1:8080")
    assert secure("", "https://127.0.0.1:8080")
    assert not secure("http://archive.example", "http://archive.example")


def test_a_prefix_that_is_a_page_of_ours_is_refused() -> None:
    with pytest.raises(Invalid, match="below /jobs"):
        create_app(Settings(public_url="https://archive.example/jobs"))  # type: ignore[call-arg]
