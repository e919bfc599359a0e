"""Rates count every request whose sender is sought, those that are refused too; what a rate refuses leaves no trace."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from services.web.app import create_app
from shared.access import AccessStore, Grant
from shared.access.audit import AuditLog
from shared.settings import Settings
from shared.storage.object_store import ObjectStore
from tests.support.ways_in import log_in

API = "/api/v1"


def client_of(settings: Settings, **rates: int) -> FlaskClient:
    return create_app(settings.model_copy(update=rates)).test_client()


def statuses(client: FlaskClient, path: str, count: int, **options: Any) -> list[int]:
    return [client.get(path, **options).status_code for _ in range(count)]


@pytest.mark.usefixtures("access")
def test_whoever_is_refused_for_want_of_a_log_in_is_counted_by_address(settings: Settings) -> None:
    client = client_of(settings, rate_requests=4)
    here, there = ({"REMOTE_ADDR": f"203.0.113.{number}"} for number in (7, 8))
    assert statuses(client, f"{API}/collections/art", 3, environ_base=here) == [401, 401, 429]
    unknown = {"Authorization": "Bearer ak_000000000000_x"}
    assert statuses(client, f"{API}/jobs", 3, environ_base=there, headers=unknown) == [401, 401, 429]


def test_whoever_is_refused_for_want_of_a_role_is_counted(settings: Settings, access: AccessStore) -> None:
    client = client_of(settings, rate_requests=4)
    for place, path, refused in ((1, f"{API}/evaluations/of-art", 404), (2, f"{API}/users", 403)):
        _, token = access.create_key((Grant("viewer", "maps"),), by=f"test {place}")
        headers = {"Authorization": f"Bearer {token}"}
        assert statuses(client, path, 3, headers=headers) == [refused, refused, 429]


def test_a_change_that_its_rate_refuses_is_not_in_the_audit_log(
    settings: Settings, access: AccessStore, store: ObjectStore
) -> None:
    assert access.load().accounts
    client = client_of(settings, rate_changes=2)
    assert log_in(client) == 303

    def change() -> TestResponse:
        return client.post("/account/keys", data={"role": "viewer"})

    def entries() -> list[str]:
        return [entry.what for entry in AuditLog(store).latest(most=10)]

    assert change().status_code == 201
    before = entries()
    assert "create_key" in before
    assert change().status_code == 429
    assert entries() == before
