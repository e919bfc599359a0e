"""Logging in and out by a browser, API keys, and how soon what is taken away is gone."""

import re
import time
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from flask.testing import FlaskClient

from services.web.access.browser_sessions import COOKIE
from services.web.app import create_app
from shared.access import AccessStore, CollectionAccess, Grant
from shared.settings import Settings
from shared.state import Client, State, log_ins, sessions
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore
from shared.storage.renames import Rename, Renames
from tests.support.ways_in import OTHER, PASSWORD, cookie_of, is_in, log_in

if TYPE_CHECKING:
    from collections.abc import Callable


def test_in_and_out(browser: FlaskClient) -> None:
    answer = browser.get("/jobs?kind=tune")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/log-in?next=/jobs?kind%3Dtune"
    assert "WWW-Authenticate" not in answer.headers
    assert log_in(browser, OTHER) == log_in(browser, name="nobody") == log_in(browser, name="<b>") == 401
    assert not is_in(browser)
    answer = browser.post("/log-in", data={"name": " Ann ", "password": PASSWORD, "next": "/jobs?kind=tune"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/jobs?kind=tune")
    cookie = answer.headers["Set-Cookie"]
    assert re.search(r"HttpOnly; Path=/; SameSite=Lax$", cookie)
    assert "Secure" not in cookie
    assert is_in(browser)
    page = browser.get("/account").get_data(as_text=True)
    assert all(text in page for text in ("ann", 'action="/log-out"', "sign-out-everywhere"))
    assert "proxy" not in page
    kept = cookie_of(browser)
    answer = browser.post("/log-out")
    assert answer.headers["Clear-Site-Data"] == '"cache"'
    assert not is_in(browser)
    browser.set_cookie(COOKIE, kept)  # as somebody who had copied it
    assert not is_in(browser)
    assert browser.get_cookie(COOKIE) is None


@pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "jobs", "/a\tb"])
def test_a_log_in_leads_to_no_other_site(browser: FlaskClient, wanted: str) -> None:
    answer = browser.post("/log-in", data={"name": "ann", "password": PASSWORD, "next": wanted})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")


def test_a_log_in_is_possible_from_the_longest_address_and_leads_to_its_page(browser: FlaskClient) -> None:
    page = "/collections/art/selection"
    long = f"{page}?ids={'1234567890,' * 600}"
    assert browser.get(long).headers["Location"] == f"/log-in?next={page}"
    assert f'name="next" value="{page}"' in browser.get("/log-in", query_string={"next": long}).get_data(as_text=True)
    for wanted, leads_to in ((long, page), ("/" + "x" * 3000, "/"), (f"{page}?ids=1", f"{page}?ids=1")):
        answer = browser.post("/log-in", data={"name": "ann", "password": PASSWORD, "next": wanted})
        assert (answer.status_code, answer.headers["Location"]) == (303, leads_to)
    answer = browser.post("/language", data={"language": "de", "next": long + "1" * 2000})
    assert (answer.status_code, answer.headers["Location"]) == (303, page)


def test_a_cookie_that_others_made_is_none(browser: FlaskClient) -> None:
    log_in(browser)
    good = cookie_of(browser)
    session, _, signature = good.rpartition(".")
    for bad in (session, "x" + good, f"{session}.", f"{session}.{signature[::-1]}", "", "ä"):
        browser.set_cookie(COOKIE, bad)
        assert not is_in(browser)
    browser.set_cookie(COOKIE, good)
    assert is_in(browser)


def test_each_log_in_has_an_id_of_its_own(browser: FlaskClient) -> None:
    log_in(browser)
    first = cookie_of(browser)
    log_in(browser)
    assert cookie_of(browser) != first
    browser.set_cookie(COOKIE, first)
    assert not is_in(browser)


def test_a_session_gets_a_new_id_each_day(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(browser)
    first = cookie_of(browser)
    now = time.time
    monkeypatch.setattr("shared.state.sessions.time.time", lambda: now() + sessions.ROTATED_S + 1)
    assert is_in(browser)
    assert cookie_of(browser) != first
    assert is_in(browser)
    monkeypatch.setattr("shared.state.sessions.time.time", lambda: now() + sessions.LONGEST_S + 1)
    assert not is_in(browser)


def test_what_is_taken_away_is_gone_at_once(browser: FlaskClient, access: AccessStore) -> None:
    changes: list[Callable[[], object]] = [
        lambda: access.set_grants("ann", (Grant("viewer"),)),
        lambda: access.set_password("ann", PASSWORD),
        lambda: access.end_sessions("ann"),
        lambda: access.set_disabled("ann", disabled=True),
    ]
    for change in changes:
        assert log_in(browser) == 303
        assert is_in(browser)
        change()
        assert not is_in(browser)
    assert log_in(browser) == 401  # the account is disabled
    access.set_disabled("ann", disabled=False)
    assert log_in(browser) == 303
    access.remove_account("ann")
    assert not is_in(browser)


def test_a_person_changes_the_password_and_ends_all_sessions(app: Flask, browser: FlaskClient) -> None:
    elsewhere = app.test_client()
    log_in(browser)
    log_in(elsewhere)
    answer = browser.post("/account/password", data={"password": OTHER, "new": OTHER})
    assert (answer.status_code, is_in(elsewhere)) == (422, True)
    assert browser.post("/account/password", data={"password": PASSWORD, "new": "short"}).status_code == 422
    assert browser.post("/account/password", data={"password": PASSWORD, "new": OTHER}).status_code == 303
    assert (is_in(browser), is_in(elsewhere)) == (True, False)
    assert log_in(elsewhere, OTHER) == 303
    browser.post("/account/sign-out-everywhere")
    assert (is_in(browser), is_in(elsewhere)) == (False, False)


def test_passwords_cannot_be_tried_out(
    app: Flask, browser: FlaskClient, monkeypatch: pytest.MonkeyPatch, redis: Client
) -> None:
    monkeypatch.setattr(log_ins, "MOST_OF_NAME_AT_ADDRESS", 2)
    monkeypatch.setattr(log_ins, "MOST_OF_ADDRESS", 4)
    log_in(browser, OTHER)
    assert log_in(browser) == 303  # what was wrong before does not count any more
    assert [log_in(browser, OTHER) for _ in range(3)] == [401, 401, 429]
    answer = browser.post("/log-in", data={"name": "ann", "password": PASSWORD})  # not even the right one
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= log_ins.WINDOW_S
    form = {"name": "ann", "password": PASSWORD}
    answer = app.test_client().post("/log-in", data=form, environ_base={"REMOTE_ADDR": "192.0.2.7"})
    assert answer.status_code == 303
    assert log_in(browser, name="bob") == 429  # the address has tried too often
    assert all(redis.ttl(key) > 0 for key in redis.keys("log-in:*"))


def test_a_page_of_another_site_cannot_log_anybody_in(browser: FlaskClient) -> None:
    answer = browser.post(
        "/log-in", data={"name": "ann", "password": PASSWORD}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 403
    assert browser.get_cookie(COOKIE) is None


def test_the_cookie_belongs_to_the_public_address(settings: Settings, access: AccessStore) -> None:
    public = settings.model_copy(update={"public_url": "https://archive.example/artseek"})
    assert access.load().accounts
    answer = (
        create_app(public)
        .test_client()
        .post("/log-in", data={"name": "ann", "password": PASSWORD}, base_url="https://archive.example")
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, "/artseek/")
    assert re.search(r"Secure; HttpOnly; Path=/artseek; SameSite=Lax$", answer.headers["Set-Cookie"])


def test_keys_of_a_person(app: Flask, browser: FlaskClient, access: AccessStore) -> None:
    log_in(browser)
    answer = browser.post("/account/keys", data={"role": "admin", "collection": "", "days": "30", "note": "<b>lap"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    page = answer.get_data(as_text=True)
    token = re.search(r"ak_[0-9a-f]{12}_[\w-]{43}", page)
    assert token is not None
    assert "<b>" not in page
    assert token[0] not in browser.get("/account").get_data(as_text=True)
    program, headers = app.test_client(), {"Authorization": f"Bearer {token[0]}"}

    def ask(path: str) -> int:
        return program.get(path, headers=headers).status_code

    assert ask("/api/v1/jobs") == 200
    assert ask("/access") == 403  # the key is an admin's, the account is not
    assert ask("/account") == 403
    assert list(State.of(access._state.access_marks._redis).access_marks.uses()) == [token[0][3:15]]
    access.set_disabled("ann", disabled=True)
    assert ask("/api/v1/jobs") == 401
    access.set_disabled("ann", disabled=False)
    assert ask("/api/v1/jobs") == 200
    log_in(browser)
    assert browser.post("/account/keys/000000000000/revoke").status_code == 404
    assert browser.post(f"/account/keys/{token[0][3:15]}/revoke").status_code == 303
    assert ask("/api/v1/jobs") == 401


def test_an_admin_sees_and_revokes_every_key(app: Flask, browser: FlaskClient, access: AccessStore) -> None:
    key, token = access.create_key((Grant("viewer"),), by="test")
    log_in(browser)
    assert browser.get("/access").status_code == 403
    access.set_grants("ann", (Grant("admin"),))
    log_in(browser)
    assert f"ak_{key.id}_" in browser.get("/access").get_data(as_text=True)
    assert browser.post(f"/access/keys/{key.id}/revoke").status_code == 303
    headers = {"Authorization": f"Bearer {token}"}
    assert app.test_client().get("/api/v1/jobs", headers=headers).status_code == 401


def test_jobs_of_others_are_not_listed(browser: FlaskClient, access: AccessStore, redis: Client) -> None:
    jobs = State.of(redis).jobs
    for collection in ("art", "maps"):
        jobs.create(f"job-of-{collection}", collection, kind="tune")
    access.set_collection("maps", CollectionAccess("public", "public"))
    access.set_grants("ann", (Grant("viewer", "art"),))
    log_in(browser)
    answer = browser.get("/api/v1/jobs").json
    assert answer is not None
    assert ([job["collection"] for job in answer["jobs"]], answer["total"]) == (["art"], 1)


def test_a_collection_that_is_renamed_or_deleted_logs_nobody_out(
    browser: FlaskClient, access: AccessStore, redis: Client, store: ObjectStore
) -> None:
    access.set_grants("ann", (Grant("curator", "art"),))
    log_in(browser)
    jobs = State.of(redis).jobs
    jobs.create("renaming", "art", kind="rename")
    for name in ("prints", "maps"):
        jobs.create(f"map-of-{name}", name, kind="map")

    def seen() -> tuple[list[int], set[str]]:
        statuses = [browser.get(f"/jobs/{job}").status_code for job in ("renaming", "map-of-maps")]
        listed = browser.get("/api/v1/jobs").json
        assert listed is not None
        assert all(f"/jobs/{job['id']}" in browser.get("/jobs").get_data(as_text=True) for job in listed["jobs"])
        return statuses, {job["id"] for job in listed["jobs"]}

    assert seen() == ([200, 404], {"renaming"})
    rename = Rename(old="art", new="prints", number=0, new_number=0, job="renaming", renamed=time.time())
    Renames(store).begin(rename)
    Renames(store).end(rename)
    Catalog(store).create("prints", model="small", version=1, dim=2)
    access.rename_collection("art", "prints")
    assert is_in(browser)
    assert seen() == ([200, 404], {"renaming", "map-of-prints"})
    access.forget_collection("prints")
    assert is_in(browser)
    assert seen() == ([404, 404], set())
