"""Servers alone, for tests that need no more: Valkey, SeaweedFS, a Valkey Cluster."""

from collections.abc import Iterator

import pytest

from services.maintenance import cost_measurement
from shared.state import Client, connect
from shared.storage.object_store import ObjectStore
from shared.tuning.cost_model import TYPICAL
from tests.support.cluster_servers import ClusterServers
from tests.support.servers import Servers


@pytest.fixture(scope="session")
def all_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of the whole run; tests take `servers`."""
    running = Servers(tmp_path_factory.mktemp("servers"))
    try:
        running.empty()  # of what was written to see whether they are ready
        yield running
    finally:
        running.stop()


@pytest.fixture
def servers(all_servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """Two Valkeys and an object store, which are empty.

    What an index is tuned to does not depend on how busy the machine is: searches cost what they typically do.
    """
    monkeypatch.setattr(cost_measurement, "measure", lambda *_: TYPICAL)
    yield all_servers
    all_servers.empty()


@pytest.fixture(scope="session")
def all_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    """The cluster of the whole run; tests take `cluster`."""
    running = ClusterServers(tmp_path_factory.mktemp("cluster"))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def cluster(all_nodes: ClusterServers) -> Iterator[ClusterServers]:
    """A cluster of three Valkeys, which is whole and empty."""
    yield all_nodes
    all_nodes.empty()


@pytest.fixture
def store(servers: Servers) -> ObjectStore:
    """The object store of `servers`."""
    return ObjectStore.from_settings(servers.settings)


@pytest.fixture
def redis(servers: Servers) -> Client:
    """A client of the index of `servers`."""
    return connect(servers.settings.index_url.get_secret_value())
