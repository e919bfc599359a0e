"""Every route of page and API, as everybody: who is let through, who has to log in, and who is told what."""

import io
import json
import re
from types import SimpleNamespace
from typing import Any, Final

import pytest
from werkzeug.test import TestResponse

from services.web import operations_routes
from services.web.clients import EXTENSION
from shared.access import CollectionAccess, Grant
from tests.support.gated_web import REFUSED, Door
from tests.support.web_client import picture

WHO: Final = {
    "anonymous": None,
    "stranger": (),
    "viewer": (Grant("viewer"),),
    "curator": (Grant("curator"),),
    "admin": (Grant("admin"),),
    "admin of maps": (Grant("admin", "maps"),),
    "viewer of art": (Grant("viewer", "art"),),
    "curator of art": (Grant("curator", "art"),),
    "admin of art": (Grant("admin", "art"),),
}
# What each of them is told by a route of each kind, in the order of `WHO`, where the collection is `art`: private.
OUTCOMES: Final = {
    "open": "ok ok ok ok ok ok ok ok ok",
    "list": "401 ok ok ok ok ok ok ok ok",
    "look": "401 404 ok ok ok 404 ok ok ok",
    "change": "401 404 403 ok ok 404 403 ok ok",
    "administer": "401 404 403 403 ok 404 403 403 ok",
    "evaluate": "401 403 403 ok ok 404 403 ok ok",
    "no provider": "404 404 404 404 404 404 404 404 404",
    "query sets": "401 403 403 ok ok ok 403 ok ok",
    "revoke link": "401 404 403 404 404 404 403 404 404",  # there is none
    "link": "404 404 404 404 404 404 404 404 404",  # there is none
    "compare": "401 403 ok ok ok 404 ok ok ok",
    "look by body": "401 404 ok ok ok 404 ok ok ok",
    "account": "401 403 403 403 403 403 403 403 403",  # which a key has not
    "system": "401 403 ok ok ok 403 403 403 403",
    "administer system": "401 403 403 403 ok 403 403 403 403",
}
API: Final = "/api/v1"
ROUTES: Final = {
    "GET /healthz": "open",
    "GET /readyz": "open",
    "GET /metrics": "system",
    "GET /static/<path:filename>": "open",
    "GET /api/v1/openapi.json": "open",
    "GET /api/v1/collections": "list",
    "GET /api/v1/collections/<name>": "look",
    "PATCH /api/v1/collections/<name>": "change",
    "DELETE /api/v1/collections/<name>": "change",
    "GET /api/v1/collections/<name>/index": "look",
    "GET /api/v1/collections/<name>/regions": "look",
    "PUT /api/v1/collections/<name>/regions": "change",
    "GET /api/v1/collections/<name>/recall": "look",
    "POST /api/v1/collections/<name>/search": "look",
    "POST /api/v1/search": "look by body",
    "POST /api/v1/collections/<name>/search-batch": "look",
    "POST /api/v1/collections/<name>/proof": "look",
    "GET /api/v1/collections/<name>/duplicates": "look",
    "POST /api/v1/collections/<name>/duplicates": "change",
    "GET /api/v1/collections/<name>/duplicates/reports/<id>": "look",
    "POST /api/v1/collections/<name>/duplicates/verdicts": "change",
    "POST /api/v1/collections/<name>/duplicates/merge": "change",
    "GET /api/v1/collections/<name>/map": "look",
    "POST /api/v1/collections/<name>/map": "change",
    "GET /api/v1/collections/<name>/map/values": "look",
    "GET /api/v1/collections/<name>/images": "look",
    "POST /api/v1/collections/<name>/images": "change",
    "POST /api/v1/collections/<name>/lookup": "look",
    "POST /api/v1/collections/<name>/export": "look",
    "POST /api/v1/collections/<name>/originals": "look",
    "POST /api/v1/collections/<name>/judgements/queries": "change",
    "POST /api/v1/collections/<name>/judgements/training": "look",
    "GET /api/v1/collections/<name>/images/<id>": "look",
    "DELETE /api/v1/collections/<name>/images/<id>": "change",
    "PATCH /api/v1/collections/<name>/images/<id>": "change",
    "PATCH /api/v1/collections/<name>/images": "change",
    "GET /api/v1/collections/<name>/facets": "look",
    "POST /api/v1/collections/<name>/records": "change",
    "GET /api/v1/collections/<name>/paths": "change",
    "POST /api/v1/collections/<name>/paths": "change",
    "GET /api/v1/collections/<name>/export": "look",
    "GET /api/v1/collections/<name>/images/<id>/original": "look",
    "GET /api/v1/collections/<name>/images/<id>/preview": "look",
    "GET /api/v1/collections/<name>/images/<id>/tiles/<level>/<x>_<y>": "look",
    "GET /api/v1/collections/<name>/images/<id>/thumbnail": "look",
    "POST /api/v1/collections/<name>/delete": "change",
    "GET /api/v1/collections/<name>/trash": "change",
    "POST /api/v1/collections/<name>/trash/<id>/restore": "change",
    "GET /api/v1/collections/<name>/trash/<id>/thumbnail": "change",
    "GET /api/v1/collections/<name>/shares": "change",
    "POST /api/v1/collections/<name>/shares": "change",
    "DELETE /api/v1/collections/<name>/shares/<id>": "revoke link",
    "GET /api/v1/users": "administer system",
    "POST /api/v1/users": "administer system",
    "GET /api/v1/users/<user>": "administer system",
    "PATCH /api/v1/users/<user>": "administer system",
    "DELETE /api/v1/users/<user>": "administer system",
    "GET /api/v1/jobs": "list",
    "GET /api/v1/jobs/<id>": "look",
    "GET /api/v1/jobs/<id>/summary": "look",
    "DELETE /api/v1/jobs/<id>": "change",
    "GET /api/v1/evaluations": "list",
    "POST /api/v1/evaluations": "evaluate",
    "GET /api/v1/evaluations/<id>": "look",
    "DELETE /api/v1/evaluations/<id>": "change",
    "GET /api/v1/evaluations/<id>/queries": "look",
    "GET /api/v1/querysets": "query sets",
    "POST /api/v1/querysets": "query sets",
    "DELETE /api/v1/querysets/<name>": "query sets",
    "GET /": "list",
    "POST /language": "open",
    "POST /search": "look by body",
    "GET /results": "look by body",
    "POST /results": "look by body",
    "GET /collections": "list",
    "GET /collections/<name>": "look",
    "POST /collections/<name>/rename": "change",
    "POST /collections/<name>/regions": "change",
    "GET /collections/<name>/selection": "look",
    "POST /collections/<name>/selection/export": "look",
    "POST /collections/<name>/selection/originals": "look",
    "POST /collections/<name>/judgements/training": "look",
    "GET /collections/<name>/images/<id>": "look",
    "POST /collections/<name>/images/<id>/record": "change",
    "POST /collections/<name>/records": "change",
    "POST /collections/<name>/delete": "change",
    "GET /collections/<name>/map": "look",
    "POST /collections/<name>/map": "change",
    "GET /collections/<name>/duplicates": "look",
    "POST /collections/<name>/duplicates": "change",
    "GET /collections/<name>/trash": "change",
    "GET /collections/<name>/quality": "look",
    "GET /evaluations": "list",
    "GET /evaluations/<collection>/<evaluation>": "look",
    "POST /evaluations/<collection>/<evaluation>/delete": "change",
    "GET /evaluations/<collection>/<evaluation>/queries/<digest>/thumbnail": "look",
    "GET /evaluations/compare": "compare",
    "GET /collections/<name>/access": "administer",
    "POST /collections/<name>/access": "administer",
    "GET /access": "administer system",
    "POST /access/keys/<key>/revoke": "administer system",
    "POST /access/users": "administer system",
    "GET /access/users/<user>": "administer system",
    "POST /access/users/<user>/roles": "administer system",
    "POST /access/users/<user>/roles/take": "administer system",
    "POST /access/users/<user>/password": "administer system",
    "POST /access/users/<user>/disabled": "administer system",
    "POST /access/users/<user>/remove": "administer system",
    "GET /collections/<name>/links": "change",
    "POST /collections/<name>/links": "change",
    "POST /collections/<name>/links/<link>/revoke": "revoke link",
    "GET /shared/<token>": "link",
    "GET /shared/<token>/<id>/thumbnail": "link",
    "GET /audit": "administer system",
    "GET /audit/<day>.jsonl": "administer system",
    "GET /log-in": "open",
    "POST /log-in": "open",
    "GET /log-in/openid": "no provider",
    "GET /log-in/openid/return": "no provider",
    "GET /logged-out": "no provider",
    "POST /log-out": "open",
    "GET /account": "account",
    "POST /account/password": "account",
    "POST /account/sign-out-everywhere": "account",
    "POST /account/keys": "account",
    "POST /account/keys/<key>/revoke": "account",
    "GET /jobs": "list",
    "GET /jobs/<id>": "look",
    "POST /jobs/<id>/cancel": "change",
}
VALUES: Final = {
    "name": "art",
    "collection": "art",
    "digest": "0" * 64,
    "level": "0",
    "x": "0",
    "y": "0",
    "filename": "icon.svg",
    "key": "0" * 12,
    "day": "2026-11-28",
    "link": "0" * 24,
    "token": "0" * 24,
    "user": "ann",
}


@pytest.fixture(scope="module")
def door() -> Door:
    class Ready:
        def __init__(self, _: object) -> None:
            pass

        def ask(self) -> dict[str, object]:
            return {"ready": True, "parts": {part: {"up": False} for part in ("query service", "broker", "index")}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations_routes, "Readiness", Ready)
        return Door({"open": CollectionAccess("public", "private")})


def send(door: Door, route: str, who: dict[str, str] | None, collection: str = "art") -> TestResponse:
    method, _, path = route.partition(" ")
    values = VALUES | {"name": collection, "collection": collection}
    for name, value in values.items():
        path = path.replace(f"<{name}>", value).replace(f"<path:{name}>", value)
    path = path.replace("<evaluation>", "evaluation-of-art")
    path = path.replace(
        "<id>", "job-of-art" if "/jobs" in path else "evaluation-of-art" if "/evaluations" in path else "1"
    )
    options: dict[str, Any] = {"headers": who or {}}
    if route == "POST /api/v1/evaluations":
        options["json"] = {"collection": collection, "sample": 1}
    elif route in {"POST /search", "POST /results"}:
        options["data"] = {"collection": collection, "image": (io.BytesIO(picture(1)), "a.jpg")}
    elif route == "POST /api/v1/search":
        options["json"] = {"collections": [collection], "id": 1}
    elif route == "GET /results":
        path += f"?collection={collection}&id=1"
    elif route == "GET /evaluations/compare":
        path += "?a=evaluation-of-art&b=evaluation-of-art"
    return door.client.open(path, method=method, **options)


def told(answer: TestResponse) -> str:
    return str(answer.status_code) if answer.status_code in REFUSED else "ok"


def test_the_table_names_every_route(door: Door) -> None:
    routes = {
        f"{method} {route.rule}"
        for route in door.app.url_map.iter_rules()
        for method in (route.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == set(ROUTES)


@pytest.mark.parametrize("who", WHO)
def test_routes_by_roles(door: Door, who: str) -> None:
    grants = WHO[who]
    headers = None if grants is None else door.key(*grants)
    place = list(WHO).index(who)
    expected = {route: OUTCOMES[kind].split()[place] for route, kind in ROUTES.items()}
    if who == "anonymous":
        expected |= dict.fromkeys(("GET /", "GET /collections", "GET /api/v1/collections"), "ok")  # what is public
    found = {route: told(send(door, route, headers)) for route in ROUTES}
    assert found == expected


PUBLIC: Final = {
    "GET /collections/<name>/map",
    "GET /api/v1/collections/<name>/map",
    "GET /api/v1/collections/<name>/map/values",
    "POST /api/v1/collections/<name>/proof",
    "GET /api/v1/collections/<name>/facets",
    "GET /api/v1/collections/<name>/export",
    "GET /api/v1/collections/<name>",
    "GET /api/v1/collections/<name>/images",
    "GET /api/v1/collections/<name>/images/<id>",
    "GET /api/v1/collections/<name>/images/<id>/thumbnail",
    "POST /api/v1/collections/<name>/lookup",
    "POST /api/v1/collections/<name>/export",
    "GET /collections/<name>/selection",
    "POST /collections/<name>/selection/export",
    "POST /api/v1/search",
    "POST /api/v1/collections/<name>/search",
    "POST /api/v1/collections/<name>/search-batch",
    "GET /collections/<name>",
    "GET /collections/<name>/images/<id>",
    "GET /results",
    "POST /results",
    "POST /search",
}


def test_every_route_that_changes_something_writes_into_the_audit_log(door: Door) -> None:
    changing = {
        f"{method} {route.rule}"
        for route in door.app.url_map.iter_rules()
        for method in (route.methods or set()) - {"GET", "HEAD", "OPTIONS"}
        if door.gate.rules[route.endpoint].action in {"change", "administer"}
    }
    assert {"POST /api/v1/querysets", "DELETE /api/v1/querysets/<name>"} < changing
    store, admin = door.app.extensions[EXTENSION].store, door.key(Grant("admin"))
    for route in changing:
        with pytest.MonkeyPatch.context() as patch:
            written: list[str] = []
            patch.setattr(store, "put", lambda key, *_, written=written: written.append(key))
            send(door, route, admin)
            assert [key.partition("/")[0] for key in written][:1] == ["audit"], route


def test_anybody_may_look_at_what_is_public_and_do_nothing_else(door: Door) -> None:
    of_collections = [
        route for route in ROUTES if "<name>" in route or route in PUBLIC or route == "POST /api/v1/evaluations"
    ]
    found = {route for route in of_collections if told(send(door, route, None, "open")) == "ok"}
    assert found == PUBLIC
    stranger = door.key()
    found = {route for route in of_collections if told(send(door, route, stranger, "open")) == "ok"}
    assert found == PUBLIC
    assert {told(send(door, route, stranger, "open")) for route in set(of_collections) - PUBLIC} == {"403"}


def test_what_one_may_not_see_is_told_as_what_does_not_exist(door: Door) -> None:
    for headers in (door.key(Grant("admin", "maps")), None):
        for route in ("GET /api/v1/collections/<name>", "GET /collections/<name>", "POST /results"):
            hidden, missing = (send(door, route, headers, name) for name in ("art", "nil"))
            assert hidden.status_code == missing.status_code
            assert re.sub(r"\bart\b", "nil", hidden.get_data(as_text=True)) == missing.get_data(as_text=True)
    stranger = door.key()
    for kind in ("jobs", "evaluations"):
        hidden, missing = (
            door.client.get(f"{API}/{kind}/{name}", headers=stranger)
            for name in (f"{kind[:-1]}-of-art", f"{kind[:-1]}-of-nil")
        )
        assert (hidden.status_code, missing.status_code) == (404, 404)
        assert hidden.get_data(as_text=True).replace("of-art", "of-nil") == missing.get_data(as_text=True)


def test_no_name_can_be_tried_out_to_find_what_one_may_not_see(door: Door) -> None:
    """Neither a new name for a collection nor what is sent to one tells whether there is another of that name."""
    catalog = SimpleNamespace(get=lambda _: None, is_there=lambda name: name == "maps", current_name=lambda name: name)
    curator = door.key(Grant("curator", "art"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door.app.extensions[EXTENSION], "catalog", catalog)

        def told_of(method: str, path: str, **options: Any) -> list[tuple[int, str]]:
            """Return what is answered about a collection that is hidden, and about one that does not exist."""
            answers = []
            for name in ("maps", "nil"):
                sent = {key: json.loads(json.dumps(value).replace("NAME", name)) for key, value in options.items()}
                answer = door.client.open(path.replace("NAME", name), method=method, headers=curator, **sent)
                answers.append((answer.status_code, answer.get_data(as_text=True).replace(name, "NAME")))
            return answers

        for method, path, options in (
            ("PATCH", f"{API}/collections/art", {"json": {"name": "NAME"}}),
            ("POST", "/collections/art/rename", {"data": {"new": "NAME"}}),
            ("POST", f"{API}/collections/NAME/images", {}),
            ("POST", f"{API}/collections/NAME/delete", {"json": {"ids": [1]}}),
            ("POST", f"{API}/collections/NAME/shares", {"json": {}}),
            ("GET", f"{API}/collections/NAME/shares", {}),
            ("POST", "/collections/NAME/links", {}),
            ("POST", f"{API}/collections/NAME/trash/1/restore", {}),
            ("POST", f"{API}/evaluations", {"json": {"collection": "NAME", "sample": 1}}),
            ("GET", f"{API}/jobs?collection=NAME", {}),
            ("GET", f"{API}/evaluations?collection=NAME", {}),
            ("GET", "/collections?name=NAME", {}),
            ("GET", "/collections/NAME/access", {}),
        ):
            hidden, missing = told_of(method, path, **options)
            assert hidden == missing, path
        status, text = told_of("PATCH", f"{API}/collections/art", json={"name": "NAME"})[0]
        assert (status, json.loads(text)["code"]) == (403, "forbidden")


def test_lists_show_what_one_may_see(door: Door) -> None:
    def seen(headers: dict[str, str] | None) -> list[str]:
        answer = door.client.get(f"{API}/collections", headers=headers or {})
        assert answer.json is not None
        return [collection["name"] for collection in answer.json["collections"]]

    assert seen(None) == ["open"]
    assert seen(door.key(Grant("viewer", "maps"))) == ["maps", "open"]
    assert seen(door.key(Grant("viewer"))) == ["art", "maps", "open"]


def test_programs_are_told_how_to_log_in_and_people_are_led_there(door: Door) -> None:
    answer = door.client.get(f"{API}/collections/art")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    answer = door.client.get(f"{API}/collections/open", headers={"Authorization": "Bearer nothing"})
    assert answer.status_code == 401  # not as if there were no key
    assert "invalid_token" in answer.headers["WWW-Authenticate"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door.gate, "log_in_page", lambda: "/log-in")
        answer = door.client.get("/collections/art")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/log-in")
        assert send(door, "POST /results", None).status_code == 401


def test_only_those_with_a_role_are_told_which_part_is_down(door: Door) -> None:
    assert door.client.get("/readyz").json == {"ready": True}
    assert door.client.get("/readyz", headers=door.key(Grant("admin", "art"))).json == {"ready": True}
    answer = door.client.get("/readyz", headers=door.key(Grant("viewer"))).json
    assert answer is not None
    assert "parts" in answer


def test_the_address_of_a_kept_picture_opens_for_those_alone_who_may_look(door: Door) -> None:
    address = f"/results?collection=art&upload={'a' * 64}"
    assert told(door.client.get(address, headers=door.key(Grant("viewer", "art")))) == "ok"
    assert told(door.client.get(address, headers=door.key(Grant("viewer", "maps")))) == "404"
    assert told(door.client.get(address.replace("/results", "/"), headers=door.key(Grant("viewer", "maps")))) == "404"
    assert told(door.client.get(address)) == "401"
