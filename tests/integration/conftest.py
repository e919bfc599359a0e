"""Valkey and SeaweedFS alone, as the local system runs them, for tests that need no more than a server or two."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from services.launcher.children import Child, tethered
from services.launcher.system import DataFolder, LocalSystem
from shared.index import Client, connect
from shared.store import ObjectStore
from tests.conftest import free_port

_PATIENCE_S = 60.0


class Server:
    """A server of the local system, without anything that would start it again when it is killed."""

    def __init__(self, child: Child, log: Path) -> None:
        self._child, self._log = child, log
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server, again if it was killed, and wait until it is ready; it lives no longer than this thread."""
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                tethered(self._child.command),
                env={**os.environ, **self._child.environment},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + _PATIENCE_S
        while not self._child.ready():
            assert self._process.poll() is None, self._log.read_text(encoding="utf-8", errors="replace")
            assert time.monotonic() < until
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill the server as a crash would; a second time does nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


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


@pytest.fixture
def store(servers: Servers) -> ObjectStore:
    """The object store of `servers`."""
    return ObjectStore.from_settings(servers.settings)


@pytest.fixture
def redis(servers: Servers) -> Client:
    """A client of the index of `servers`."""
    return connect(servers.settings.index_url.get_secret_value())
