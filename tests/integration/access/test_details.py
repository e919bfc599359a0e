"""What pages tell those who may look at a collection and have no role in it: nothing of its jobs, index and damage."""

from types import SimpleNamespace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.access import AccessStore, CollectionAccess, Grant
from shared.maps.maps import Maps
from shared.rpc.query import Collection, QueryClient
from shared.rpc.query import query_pb2 as messages
from shared.state import Client, State
from shared.state.verifications import FoundDamage
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore
from tests.support.ways_in import log_in

CHANGE = messages.Change(model="large", model_version=1, images=3)
ART = Collection(name="art", model="small", images=5, change=CHANGE, regions=True, windows=7, damaged=["s7"])
REPORT = SimpleNamespace(
    measured=SimpleNamespace(recall=0.97, candidate_share=0.1, queries=100),
    tuning=SimpleNamespace(chosen=SimpleNamespace(family="voronoi")),
    generation=3,
)


@pytest.fixture
def visited(app: Flask, access: AccessStore, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """An application with the collection `art`, which everybody may look at; Ann is a curator of it."""
    Catalog(store).create("art", model="small", version=1, dim=2)
    access.set_collection("art", CollectionAccess("public", "private"))
    access.set_grants("ann", (Grant("curator", "art"),))
    monkeypatch.setattr(QueryClient, "collection", lambda *_: ART)
    monkeypatch.setattr(QueryClient, "facets", lambda *_, **__: messages.CountFacetsResponse())
    monkeypatch.setattr(QueryClient, "images", lambda *_, **__: messages.ListImagesResponse())
    monkeypatch.setattr(Catalog, "current_report", lambda *_: REPORT)
    return app


def test_figures_of_the_index_and_damage_are_told_to_those_with_a_role(
    visited: Flask, browser: FlaskClient, redis: Client
) -> None:
    State.of(redis).verifications.set((FoundDamage("not-indexed", "art", 2, "images are in no index"),))
    details = ("Changing to large", "7 windows", "The index finds 97", "The last verification found damage")
    for_all = (">5<", "s7")  # searches leave out what is in a segment that cannot be read
    log_in(browser)
    inside = browser.get("/collections/art").get_data(as_text=True)
    assert [told for told in (*details, *for_all) if told not in inside] == []
    outside = visited.test_client().get("/collections/art").get_data(as_text=True)
    assert [told for told in details if told in outside] == []
    assert [told for told in for_all if told not in outside] == []


def test_how_far_a_map_is_those_with_a_role_see_and_the_others_that_it_comes(
    visited: Flask, browser: FlaskClient, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, making = visited.test_client(), "The map is being made."

    def page(who: FlaskClient) -> str:
        answer = who.get("/collections/art/map")
        assert answer.status_code == 200
        return answer.get_data(as_text=True)

    assert making not in page(guest)
    State.of(redis).jobs.create("the-job", "art", kind="map")
    log_in(browser)
    inside, outside = page(browser), page(guest)
    assert (making in inside, "the-job" in inside, "data-awaited" in inside) == (True, True, False)
    assert (making in outside, "the-job" in outside, "data-awaited" in outside) == (True, False, True)
    monkeypatch.setattr(Maps, "exists", lambda *_: True)  # images that came later are placed on it
    assert ("the-job" in page(browser), making in page(guest)) == (True, False)
