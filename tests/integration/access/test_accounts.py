"""Accounts of others: by pages and by the API, and what is counted for each."""

from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from services.web.app import create_app
from services.web.requester import requester_key
from shared.access import AccessStore, Grant
from shared.access.audit import AuditLog
from shared.access.passwords import fits
from shared.rpc.query import Collection, QueryClient
from shared.settings import Settings
from tests.support.ways_in import OTHER, PASSWORD, is_in, log_in


def test_an_admin_adds_changes_and_removes_accounts_on_pages(
    app: Flask, browser: FlaskClient, access: AccessStore
) -> None:
    access.set_grants("ann", (Grant("admin"),))
    log_in(browser)

    def post(path: str, **form: str) -> int:
        return browser.post(f"/access/users{path}", data=form).status_code

    assert post("", name="<b>", password=PASSWORD) == post("", name="bob", password="short") == 422
    assert post("", name="ann", password=PASSWORD) == 409
    assert post("", name=" Bob ", password=PASSWORD, role="viewer", collection="art") == 303
    assert access.account("bob").grants == (Grant("viewer", "art"),)
    assert post("/bob/roles", role="curator", collection="art") == post("/bob/roles", role="viewer") == 303
    assert access.account("bob").grants == (Grant("curator", "art"), Grant("viewer"))
    assert "of art" not in browser.get("/access/users/bob").get_data(as_text=True).replace("curator of art", "")
    elsewhere = app.test_client()
    assert log_in(elsewhere, name="bob") == 303
    assert post("/bob/roles/take", role="curator", collection="art") == 303
    assert (access.account("bob").grants, is_in(elsewhere)) == ((Grant("viewer"),), False)
    assert (post("/bob/password", password="short"), post("/bob/password", password=OTHER)) == (422, 303)
    assert log_in(elsewhere, OTHER, name="bob") == 303
    assert post("/bob/disabled", disabled="yes") == 303
    assert (is_in(elsewhere), log_in(elsewhere, OTHER, name="bob")) == (False, 401)
    assert post("/bob/disabled", disabled="no") == 303
    for path, form in (("roles", {"role": "viewer"}), ("disabled", {}), ("password", {}), ("remove", {"typed": "ann"})):
        assert browser.post(f"/access/users/ann/{path}", data=form).status_code == 409  # one's own
    assert (post("/bob/remove", typed="bo"), post("/bob/remove", typed="bob"), post("/bob/remove")) == (422, 303, 404)
    assert list(access.load().accounts) == ["ann"]
    done = {(entry.what, entry.detail, entry.status) for entry in AuditLog(access._store).latest(most=100)}
    assert {
        ("add_account", "account bob viewer of art", 303),
        ("give_role", "account bob curator of art, viewer", 303),
        ("take_role", "account bob viewer", 303),
        ("give_password", "account bob another password", 303),
        ("disable_account", "account bob disabled", 303),
        ("remove_account", "account bob", 303),
        ("remove_account", "account ann", 409),
    } <= done
    assert PASSWORD not in str(done)


def test_accounts_by_the_api(app: Flask, access: AccessStore) -> None:
    _, token = access.create_key((Grant("admin"),), account="ann", by="test")
    access.set_grants("ann", (Grant("admin"),))
    program, headers = app.test_client(), {"Authorization": f"Bearer {token}"}

    def ask(method: str, path: str = "", **values: object) -> tuple[int, Any]:
        answer = program.open(f"/api/v1/users{path}", method=method, json=values or None, headers=headers)
        return answer.status_code, answer.json

    roles = [{"role": "viewer", "collection": "art"}, {"role": "curator", "collection": None}]
    status, made = ask("POST", name="bob", password=PASSWORD, roles=roles)
    assert (status, made["roles"], made["disabled"]) == (201, roles, False)
    assert "password" not in made
    assert ask("POST", name="bob", password=PASSWORD)[0] == 409
    assert ask("POST", name="eve", password="short")[0] == ask("POST", name="Eve", password=PASSWORD)[0] == 422
    assert ask("PATCH", "/bob", disabled=True, roles=[], password=OTHER)[1] == made | {"disabled": True, "roles": []}
    assert fits(OTHER, access.account("bob").password)
    assert [user["name"] for user in ask("GET")[1]["users"]] == ["ann", "bob"]
    assert ask("GET", "/bob")[1]["disabled"]
    assert ask("PATCH", "/ann", disabled=True)[0] == ask("DELETE", "/ann")[0] == 409  # one's own
    assert (ask("DELETE", "/bob")[0], ask("GET", "/bob")[0]) == (204, 404)


def test_an_admin_of_a_collection_does_not_see_roles_in_others(
    browser: FlaskClient, access: AccessStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QueryClient, "collection", lambda _, name: Collection(name=name, model="m"))
    access.set_grants("ann", (Grant("admin", "art"),))
    access.add_account("bob", (Grant("viewer", "art"), Grant("curator", "secret")), password=None, by="test")
    log_in(browser)
    page = browser.get("/collections/art/access").get_data(as_text=True)
    assert "viewer of art" in page
    assert "secret" not in page


def test_who_has_as_many_keys_as_one_may_is_told_to_revoke_some(
    browser: FlaskClient, access: AccessStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.access.access_store.MOST_KEYS", 1)
    access.set_grants("ann", ())  # an account without a role has keys too
    log_in(browser)
    assert browser.post("/account/keys", data={"role": "viewer"}).status_code == 201
    for language, told in (("en", "at most 1: revoke some first"), ("de", "Widerrufen Sie zuerst einige")):
        refused = browser.post("/account/keys", data={"role": "viewer"}, headers={"Accept-Language": language})
        assert refused.status_code == 422
        assert told in refused.get_data(as_text=True)
    key = next(iter(access.load().keys))
    assert browser.post(f"/account/keys/{key}/revoke").status_code == 303
    assert browser.post("/account/keys", data={"role": "viewer"}).status_code == 201


def test_what_is_counted_is_counted_for_an_account_with_all_its_keys_and_browsers(
    settings: Settings, access: AccessStore
) -> None:
    app, counted = create_app(settings), list[str]()

    def note(response: Response) -> Response:
        counted.append(requester_key())
        return response

    app.after_request(note)
    (_, first), (_, second) = (access.create_key((Grant("viewer"),), account="ann", by="ann") for _ in range(2))
    key, of_nobody = access.create_key((Grant("viewer"),), by="test")
    browsers = [app.test_client(), app.test_client()]
    assert [log_in(browser) for browser in browsers] == [303, 303]
    counted.clear()
    for browser in browsers:
        assert is_in(browser)
    for token in (first, second, of_nobody):
        assert app.test_client().get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    app.test_client().get("/log-in", environ_base={"REMOTE_ADDR": "2001:db8::1"})
    assert counted == [*(4 * ["account:ann"]), f"key:{key.id}", "address:2001:db8::/64"]
