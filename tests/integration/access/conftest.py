"""An application on real servers with the account of Ann, who is a curator."""

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient

from services.web.app import create_app
from shared.access import AccessStore, Grant, passwords
from shared.rpc.query import Collection, Image, QueryClient
from shared.settings import Settings
from shared.state import Client, State
from shared.storage.object_store import ObjectStore
from tests.support.servers import Servers
from tests.support.ways_in import PASSWORD


@pytest.fixture
def settings(servers: Servers) -> Settings:
    return servers.settings.model_copy(update={"web_listen": "0.0.0.0:8080"})


@pytest.fixture
def access(store: ObjectStore, redis: Client) -> AccessStore:
    store.ensure_bucket()
    found = AccessStore(store, State.of(redis))
    found.add_account("ann", (Grant("curator"),), password=PASSWORD, by="test")
    return found


@pytest.fixture
def app(settings: Settings, access: AccessStore) -> Flask:
    assert access.load().accounts
    return create_app(settings)


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that are made in no time; the real ones are for attackers to wait for."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query service that has the collection `art` with a few images."""
    monkeypatch.setattr(QueryClient, "collection", lambda _, name: Collection(name=name, model="m"))
    monkeypatch.setattr(QueryClient, "collections", lambda _: [Collection(name="art"), Collection(name="maps")])
    monkeypatch.setattr(
        QueryClient, "image", lambda _, __, image: Image(id=image, name=f"{image}.jpg", digest="0" * 64)
    )
    monkeypatch.setattr("services.web.thumbnails.Thumbnails.get", lambda *_, **__: b"jpeg")
