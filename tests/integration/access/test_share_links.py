"""Share links: what they open, to whom and for how long; and what browsers keep."""

import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.access import AccessStore, Grant
from shared.access.audit import AuditLog
from tests.support.ways_in import log_in, token_in


@pytest.mark.usefixtures("held")
def test_a_link_opens_a_collection_to_a_browser_until_it_ends(
    app: Flask, browser: FlaskClient, access: AccessStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(browser)
    assert browser.post("/collections/art/links", data={"days": "0"}).status_code == 422
    made = browser.post("/collections/art/links", data={"days": "7"})
    token = token_in(browser.get(made.headers["Location"]).get_data(as_text=True))
    guest = app.test_client()
    assert guest.get("/api/v1/collections/art").status_code == 401
    assert guest.get(f"/shared/{token[:-1]}").status_code == 404
    answer = guest.get(f"/shared/{token}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/collections/art")

    def sees(collection: str) -> int:
        return guest.get(f"/api/v1/collections/{collection}").status_code

    assert (sees("art"), sees("maps")) == (200, 401)
    assert guest.get("/api/v1/collections/art/images/1/thumbnail").status_code == 200
    assert guest.get("/api/v1/collections/art/images/1/original").status_code == 401
    assert guest.delete("/api/v1/collections/art/images/1").status_code == 401
    assert guest.get("/collections/art/links").status_code == 303
    access.set_grants("ann", (Grant("viewer"),))  # whoever made it may not share any more
    assert sees("art") == 401
    access.set_grants("ann", (Grant("curator"),))
    assert sees("art") == 200
    now = time.time
    with monkeypatch.context() as patch:
        patch.setattr("shared.access.access.time.time", lambda: now() + 8 * 86_400)
        assert sees("art") == 401
    log_in(browser)
    link = next(iter(access.load().links))
    assert browser.post(f"/collections/maps/links/{link}/revoke").status_code == 404
    assert browser.post(f"/collections/art/links/{link}/revoke").status_code == 303
    assert sees("art") == 401
    assert guest.get(f"/shared/{token}").status_code == 404


@pytest.mark.usefixtures("held")
def test_a_link_of_a_result_shows_its_images_and_no_others(app: Flask, browser: FlaskClient) -> None:
    log_in(browser)
    made = browser.post("/collections/art/links", data={"hit": ["7", "8"], "query": "5"})
    token = token_in(browser.get(made.headers["Location"]).get_data(as_text=True))
    guest = app.test_client()
    page = guest.get(f"/shared/{token}").get_data(as_text=True)
    assert "7.jpg" in page
    assert "5.jpg" in page
    statuses = [guest.get(f"/shared/{token}/{image}/thumbnail").status_code for image in (5, 7, 8, 6)]
    assert statuses == [200, 200, 200, 404]
    assert guest.get("/api/v1/collections/art").status_code == 401


@pytest.mark.usefixtures("held")
def test_links_by_the_api_end_with_the_key_that_made_them(app: Flask, access: AccessStore) -> None:
    shares = "/api/v1/collections/art/shares"
    key, token = access.create_key((Grant("curator", "art"),), by="test")
    of_ann, token_of_ann = access.create_key((Grant("admin"),), account="ann", by="ann")
    program, guest = app.test_client(), app.test_client()

    def make(secret: str, **values: object) -> Any:
        answer = program.post(shares, json=values, headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == 201, answer.json
        return answer.json

    whole, result, of_a_person = make(token, days=7), make(token, images=[7, 8], query=5), make(token_of_ann)
    assert (whole["by"], whole["images"], whole["query"]) == (f"key {key.id}", [], None)
    assert (result["images"], result["query"], result["collection"]) == ([7, 8], 5, "art")
    listed = program.get(shares, headers={"Authorization": f"Bearer {token}"}).json
    assert listed is not None
    assert {share["id"]: share for share in listed["shares"]} == {
        share["id"]: share for share in (whole, result, of_a_person)
    }
    opened = [guest.get(urlsplit(share["url"]).path).status_code for share in (whole, result, of_a_person)]
    assert opened == [303, 200, 303]
    headers = {"Authorization": f"Bearer {token}"}
    assert program.post(shares, json={"days": 366}, headers=headers).status_code == 422
    assert program.delete(f"{shares}/{result['id']}", headers=headers).status_code == 204
    assert program.delete(f"{shares}/{result['id']}", headers=headers).status_code == 404
    assert [entry.detail for entry in AuditLog(access._store).latest(most=2)] == ["", f"link {result['id']}"]
    access.revoke_key(key.id)
    assert guest.get(urlsplit(whole["url"]).path).status_code == 404
    assert access.load().links.keys() == {whole["id"], of_a_person["id"]}
    access.set_grants("ann", (Grant("viewer"),))  # the key is an admin's, its account is none
    assert guest.get(urlsplit(of_a_person["url"]).path).status_code == 404
    access.remove_account("ann")
    assert access.load().links.keys() == {whole["id"]}
    assert of_ann.id not in access.load().keys


def test_links_that_have_run_out_are_removed_with_the_next(
    access: AccessStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    access.create_link("art", account="ann", days=1)
    now = time.time
    monkeypatch.setattr("shared.access.access_store.time.time", lambda: now() + 2 * 86_400)
    link = access.create_link("art", account="ann", days=1)
    assert access.load().links.keys() == {link.id}


def test_links_follow_their_collection(access: AccessStore) -> None:
    link = access.create_link("art", images=(1,), query=0, account="ann", days=1)
    access.rename_collection("art", "prints")
    assert access.load().links[link.id].collection == "prints"
    access.forget_collection("prints")
    assert access.load().links == {}


@pytest.mark.usefixtures("held")
def test_a_picture_that_a_browser_keeps_is_not_shown_after_a_role_is_taken_away(
    browser: FlaskClient, access: AccessStore
) -> None:
    log_in(browser)
    picture = "/api/v1/collections/art/images/1/thumbnail"
    answer = browser.get(picture)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "private, no-cache")
    assert {"Authorization", "Cookie"} <= set(answer.vary)
    asking = {"If-None-Match": answer.headers["ETag"]}
    assert browser.get(picture, headers=asking).status_code == 304
    access.set_grants("ann", (Grant("viewer", "maps"),))
    assert browser.get(picture, headers=asking).status_code == 401
    log_in(browser)
    assert browser.get(picture, headers=asking).status_code == 404
    assert browser.get("/collections/art").status_code == 404
