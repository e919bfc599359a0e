"""The audit log: written before a change, finished after it, put together day by day, and seen by admins alone."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from services.web.app import create_app
from shared.access import AccessStore, Grant
from shared.access.audit import AuditLog, day_of
from shared.errors import NotFound, StoreUnavailable
from shared.settings import Settings
from shared.state import Client, State
from shared.storage import access_layout
from shared.storage.object_store import ObjectStore
from tests.support.servers import Servers

DAY_S = 24 * 3600.0


@pytest.fixture
def log(store: ObjectStore) -> AuditLog:
    store.ensure_bucket()
    return AuditLog(store)


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("shared.access.audit.time.time", lambda: seconds)


def test_an_entry_is_there_before_the_change_and_says_later_what_came_of_it(log: AuditLog) -> None:
    entry = log.begin(who="account ann", what="delete_images", address="192.0.2.1", collection="art")
    assert log.latest(most=10) == [entry]
    assert "status" not in entry.to_answer()
    entry = log.add_images(entry, [1, 2])
    log.finish(entry, status=202, job="j")
    (found,) = log.latest(most=10)
    assert (found.id, found.images, found.status, found.job) == (entry.id, (1, 2), 202, "j")


def test_entries_come_latest_first_and_by_collection_and_name(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as then:
        for number, (who, collection) in enumerate([("ann", "art"), ("bob", "art"), ("ann", "maps")]):
            at(then, 1e9 + number)
            log.begin(who=f"account {who}", what=str(number), collection=collection)
    assert [entry.what for entry in log.latest(most=10)] == ["2", "1", "0"]
    assert [entry.what for entry in log.latest(most=1)] == ["2"]
    assert [entry.what for entry in log.latest(most=10, collection="art")] == ["1", "0"]
    assert [entry.what for entry in log.latest(most=10, who="ann", collection="art")] == ["0"]


def test_days_that_are_over_become_one_object_and_old_ones_go(
    log: AuditLog, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for days in (0, 2, 2, 40):
        at(monkeypatch, now - days * DAY_S)
        entry = log.begin(who="account ann", what=f"{days}")
    monkeypatch.undo()
    before = log.latest(most=10)
    assert len(before) == 4
    log.tidy(days=60)
    log.tidy(days=60)
    assert log.latest(most=10) == before
    keys = [item.key for item in store.list(access_layout.AUDIT)]
    assert len(keys) == 3  # the day of today is not over
    assert access_layout.audit_day_key(day_of(now - 2 * DAY_S)) in keys
    log.finish(entry, status=204)  # very late
    assert log.of_day(entry.day)[0].status == 204
    log.tidy(days=30)
    assert len(log.latest(most=10, days=1000)) == 3
    assert log.of_day(day_of(now - 40 * DAY_S)) == []


def test_a_death_while_a_day_is_put_together_loses_nothing(
    log: AuditLog, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = []
    for number in range(3):
        at(monkeypatch, (datetime.now(UTC) - timedelta(days=3)).timestamp() + number)
        entries.append(log.begin(who="account ann", what=str(number)))
    monkeypatch.undo()
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "delete", lambda *_: (_ for _ in ()).throw(StoreUnavailable("dead")))
        with pytest.raises(StoreUnavailable):
            log.tidy(days=30)
    assert len(list(store.list(access_layout.AUDIT))) == 4
    assert log.latest(most=10) == entries[::-1]
    log.tidy(days=30)
    assert len(list(store.list(access_layout.AUDIT))) == 1
    assert log.latest(most=10) == entries[::-1]


def test_what_cannot_be_read_hides_nothing_else(log: AuditLog, store: ObjectStore) -> None:
    entry = log.begin(who="account ann", what="delete_image")
    store.put(access_layout.audit_entry_key(entry.day, "0-broken"), b"{")
    assert log.latest(most=10) == [entry]


@pytest.fixture
def settings(servers: Servers) -> Settings:
    return servers.settings.model_copy(update={"web_listen": "0.0.0.0:8080"})


def test_requests_that_change_something_are_logged(
    settings: Settings, log: AuditLog, store: ObjectStore, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State.of(redis)
    access = AccessStore(store, state)
    key, token = access.create_key((Grant("curator", "art"),), by="test")
    _, of_admin = access.create_key((Grant("admin"),), by="test")
    curator, admin = ({"Authorization": f"Bearer {secret}"} for secret in (token, of_admin))
    state.jobs.create("job-1", "art", kind="evaluate")
    client = create_app(settings).test_client()
    client.get("/api/v1/jobs/job-1", headers=curator)
    client.get("/api/v1/jobs", headers=curator)
    assert log.latest(most=10) == []
    from_there = {"REMOTE_ADDR": "192.0.2.9"}
    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "_put", lambda *_: (_ for _ in ()).throw(StoreUnavailable("full")))
        assert client.delete("/api/v1/jobs/job-1", headers=curator).status_code == 503
    assert not state.jobs.get("job-1").cancelled  # what cannot be logged is not done
    assert client.delete("/api/v1/jobs/job-1", headers=curator, environ_base=from_there).status_code == 202
    (entry,) = log.latest(most=10)
    assert (entry.who, entry.what, entry.collection, entry.address, entry.status, entry.detail) == (
        f"key {key.id}",
        "cancel_job",
        "art",
        "192.0.2.9",
        202,
        "job job-1",
    )
    client.post("/log-in", data={"name": "nobody", "password": "a long password"})
    found = [(entry.what, entry.who, entry.status, entry.detail) for entry in log.latest(most=1)]
    assert found == [("log_in", "anonymous", 401, "")]  # what is no name may be a password in the wrong field
    assert client.get("/audit", headers=curator).status_code == 403
    assert f"key {key.id}" in client.get("/audit?collection=art", headers=admin).get_data(as_text=True)
    answer = client.get(f"/audit/{entry.day}.jsonl", headers=admin)
    assert [json.loads(line)["what"] for line in answer.get_data(as_text=True).splitlines()] == ["cancel_job", "log_in"]
    assert client.get("/audit/2020-01-01.jsonl", headers=admin).status_code == 404


def test_where_nobody_logs_in_nothing_is_logged(servers: Servers, log: AuditLog, redis: Client) -> None:
    State.of(redis).jobs.create("job-1", "art", kind="evaluate")
    assert create_app(servers.settings).test_client().delete("/api/v1/jobs/job-1").status_code == 202
    assert log.latest(most=10) == []
    with pytest.raises(NotFound):
        State.of(redis).jobs.get("job-2")
