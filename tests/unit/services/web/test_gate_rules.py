"""The gate: every route has a rule, a request asks for rights once, and no answer is kept for somebody else."""

import pytest
from flask import Blueprint

from services.web.access import GuardedBlueprint
from services.web.access import gate as gating
from shared.access import CollectionAccess, Grant
from tests.support.gated_web import Door


@pytest.fixture(scope="module")
def door() -> Door:
    return Door({"open": CollectionAccess("public", "private")})


def test_answers_of_one_are_not_kept_for_another(door: Door) -> None:
    for headers in (None, door.key(Grant("viewer"))):
        answer = door.client.get("/collections", headers=headers or {})
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert {"Authorization", "Cookie"} <= set(answer.vary)


def test_no_route_is_without_a_rule(door: Door) -> None:
    app = door.app.__class__("other")
    gating.attach(app, door.gate)
    blueprint = Blueprint("loose", "loose")
    blueprint.add_url_rule("/loose", "loose", lambda: "loose")
    app.register_blueprint(blueprint)
    with pytest.raises(RuntimeError, match="/loose"):
        gating.gather_rules(app)
    with pytest.raises(TypeError, match="access"):
        GuardedBlueprint("x", "x").add_url_rule("/x", "x", lambda: "x")  # type: ignore[call-arg]


def test_a_request_asks_once_who_may_do_what_however_much_it_shows(door: Door) -> None:
    asked: list[str] = []
    viewer = door.key(Grant("viewer"))

    def ask() -> str:
        asked.append("")
        return "1"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door.gate.access, "_ask", ask)
        door.client.get("/collections", headers=viewer)
    assert len(asked) == 2  # once for the key, once for all that the page shows
