"""Shared caches: what they may keep is the same for all, and has no cookie of anybody's."""

from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, Response, url_for

from services.web import operations_routes, security
from services.web.access import browser_sessions
from services.web.access.browser_sessions import COOKIE
from services.web.clients import EXTENSION
from shared.access import Account, Grant
from shared.access.signing import Signing
from shared.errors import Unavailable
from shared.settings import Settings
from shared.state.sessions import Session
from tests.support.gated_web import Door
from tests.unit.services.web.test_gate import ROUTES, send

SIGNING = Signing(lambda: ["secret"])
SIGNED = SIGNING.sign("an id", salt=COOKIE)
NOT_LOOKED_UP = ("GET /healthz", "GET /static/<path:filename>")


class DailySessions:
    """Has one session, which gets a new id with every request; away, if it is told to be."""

    is_away = False

    def get(self, _: str) -> Session:
        if self.is_away:
            raise Unavailable("away")
        return Session("ann", "stamp", began=0.0, rotated=0.0)

    def rotate(self, *_: object) -> str:
        return "another id"

    def __getattr__(self, _: str) -> Any:
        return lambda *_: "another id"


@pytest.fixture
def sessions(door: Door) -> DailySessions:
    found: DailySessions = door.app.extensions[EXTENSION].state.sessions
    return found


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    parts = {part: {"up": False, "reason": "away"} for part in ("query service", "broker", "index")}
    ready = SimpleNamespace(ask=lambda: {"ready": False, "parts": parts})
    monkeypatch.setattr(operations_routes, "Readiness", lambda _: ready)
    ann = Account("ann", None, (Grant("curator"),), disabled=False, stamp="stamp", created=0.0, by="test")
    made = Door()
    made.state.accounts["ann"] = ann  # type: ignore[index]
    made.app.extensions[EXTENSION].state.sessions = DailySessions()
    way_in = browser_sessions.attach(made.app, made.gate.access)
    way_in.signing = SIGNING
    made.gate.ways_in.append(way_in)
    made.client = made.app.test_client()
    made.client.set_cookie(COOKIE, SIGNED)
    return made


def test_no_answer_that_a_shared_cache_may_keep_has_a_cookie(door: Door) -> None:
    with_cookie = set()
    for route in ROUTES:
        door.client.set_cookie(COOKIE, SIGNED)  # a log-out has taken it back
        answer = send(door, route, None)
        if "Set-Cookie" in answer.headers:
            with_cookie.add(route)
            assert answer.cache_control.private or answer.cache_control.no_store, route
    assert with_cookie == set(ROUTES) - set(NOT_LOOKED_UP)


def test_scripts_and_styles_are_answered_to_nobody_in_particular(door: Door, sessions: DailySessions) -> None:
    sessions.is_away = True
    with door.app.test_request_context():
        address = url_for("static", filename="artseek.css")
    for headers in ({}, {"Authorization": "Bearer nothing"}):
        answer = door.client.get(address, headers=headers)
        assert (answer.status_code, answer.cache_control.public, answer.cache_control.immutable) == (200, True, True)
        assert "Set-Cookie" not in answer.headers
        assert "Cookie" not in answer.vary
        assert door.client.get("/healthz", headers=headers).status_code == 200
        assert door.client.get("/static/nothing.css", headers=headers).status_code == 404
    assert door.client.get("/jobs").status_code == 503


def test_an_answer_with_a_cookie_is_for_one_browser_whatever_its_view_thinks() -> None:
    app = Flask(__name__)
    security.attach(app, Settings(_env_file=None))  # type: ignore[call-arg]

    def careless() -> Response:
        response = Response("for all")
        response.headers["Cache-Control"] = "public, max-age=3600, immutable"
        response.set_cookie("a", "b")
        return response

    app.add_url_rule("/careless", view_func=careless)
    assert app.test_client().get("/careless").headers["Cache-Control"] == "private, no-cache"
