"""Valkey and SeaweedFS alone, as the local system runs them, for tests that need no more than some servers."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from local.system import DataFolder, LocalSystem
from shared.state import Client, connect
from shared.storage.object_store import ObjectStore
from tests.conftest import free_port
from tests.support.cluster_servers import ClusterServers
from tests.support.server import Server


class Servers:
    """Two Valkeys and an object store, empty, and the settings that reach them."""

    def __init__(self, folder: Path) -> None:
        with patch.dict(os.environ):  # the launcher hands its settings to its children through its own environment
            system = LocalSystem(DataFolder(folder), host="127.0.0.1", port=free_port(), models=folder / "models")
            index, broker, objects, _ = system.stores()
        self.settings = system.settings
        self.index, self.broker, self.objects = (
            Server(child, folder / "logs" / f"{child.name}.log") for child in (index, broker, objects)
        )

    def empty(self) -> None:
        """Start what a test killed, and delete what it wrote."""
        for url in (self.settings.index_url, self.settings.broker_url):
            connect(url.get_secret_value()).flushall()
        store = ObjectStore.from_settings(self.settings)
        store.delete([item.key for item in store.list("")])

    def stop(self) -> None:
        """Kill the servers."""
        for server in (self.index, self.broker, self.objects):
            server.kill()


@pytest.fixture(scope="session")
def all_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of the whole run; tests take `servers`."""
    running = Servers(tmp_path_factory.mktemp("servers"))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def servers(all_servers: Servers) -> Iterator[Servers]:
    """Two Valkeys and an object store, which are empty."""
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
