"""A collection `art` in a store that is watched, and its replicas."""

from pathlib import Path

import pytest

from services.query.replica.replica import Replica
from shared.state import Client, State
from shared.storage.catalog import Catalog, EmbeddingSet
from shared.storage.object_store import ObjectStore
from tests.support.replicas import DIM, OpenReplica, WatchedStore


@pytest.fixture
def watched(store: ObjectStore) -> WatchedStore:
    return WatchedStore(store)


@pytest.fixture
def catalog(watched: WatchedStore) -> Catalog:
    return Catalog(watched)


@pytest.fixture
def art(catalog: Catalog) -> EmbeddingSet:
    return catalog.create("art", model="lite", version=1, dim=DIM)


@pytest.fixture
def make_replica(catalog: Catalog, art: EmbeddingSet, redis: Client, tmp_path: Path) -> OpenReplica:
    """Make a replica of ``art``, which is in step with nothing yet."""
    return lambda: Replica(art, catalog=catalog, state=State.of(redis), folder=tmp_path)


@pytest.fixture
def open_replica(make_replica: OpenReplica) -> OpenReplica:
    """Make a replica of ``art`` that is in step."""

    def opened() -> Replica:
        replica = make_replica()
        replica.synchronise()
        return replica

    return opened
