"""The start: a system has a way in, containers make a first admin, Prometheus sees metrics alone."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from services.web.app import create_app
from shared.access import AccessStore, Grant
from shared.access.passwords import fits
from shared.access.starting import ensure_way_in
from shared.errors import Invalid
from shared.settings import Settings
from shared.state import Client, State
from shared.storage.object_store import ObjectStore
from tests.support.servers import Servers
from tests.support.ways_in import OTHER, PASSWORD


def test_a_start_without_a_way_in_is_refused(servers: Servers, settings: Settings, store: ObjectStore) -> None:
    ensure_way_in(servers.settings)  # on loopback, everybody may do everything
    with pytest.raises(Invalid, match="artseek users add"):
        ensure_way_in(settings)
    ensure_way_in(settings.model_copy(update={"insecure": True}))
    assert not list(store.list("access/"))


def test_containers_make_a_first_admin(settings: Settings, store: ObjectStore, redis: Client, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    with_file = settings.model_copy(update={"admin_password_file": file})
    ensure_way_in(with_file)
    access = AccessStore(store, State.of(redis))
    admin = access.account("admin")
    assert admin.grants == (Grant("admin"),)
    assert fits(PASSWORD, admin.password)
    file.write_text(OTHER)
    ensure_way_in(with_file)  # it is there already, and keeps its password
    assert access.account("admin") == admin
    access.set_disabled("admin", disabled=True)
    with pytest.raises(Invalid):
        ensure_way_in(with_file)


def test_prometheus_sees_metrics_and_nothing_else(settings: Settings, access: AccessStore) -> None:
    assert access.load().accounts
    client = create_app(settings).test_client()
    token = settings.metrics_token.get_secret_value()
    assert token
    asking = {"Authorization": f"Bearer {token}"}
    assert client.get("/metrics", headers=asking).status_code == 200
    assert "parts" in (client.get("/readyz", headers=asking).json or {})
    assert client.get("/api/v1/jobs", headers=asking).status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {token}x"}).status_code == 401
    nobody = create_app(settings.model_copy(update={"metrics_token": SecretStr("")})).test_client()
    assert nobody.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401
