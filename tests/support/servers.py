"""Valkey and SeaweedFS alone, as the local system runs them, but for the wait until a write is on the disk.

Tests kill servers, which loses nothing that the kernel was given; they do not cut the power.
"""

from pathlib import Path

from local.data_folder import DataFolder
from local.object_store import FILER_FILE
from local.system import LocalSystem
from shared.state import connect
from shared.storage.object_store import ObjectStore
from tests.support.processes import free_port
from tests.support.server import Server


class Servers:
    """Two Valkeys and an object store, empty, and the settings that reach them."""

    def __init__(self, folder: Path) -> None:
        self.system = system = LocalSystem(
            DataFolder(folder), host="127.0.0.1", port=free_port(), models=folder / "models"
        )
        index, broker, objects, _ = system.backing_servers()
        for name in ("valkey-index", "valkey-broker"):
            _change(folder / name / "valkey.conf", "appendfsync always", "appendfsync no")
        _change(folder / FILER_FILE, "?_pragma", "?_pragma=synchronous(OFF)&_pragma")
        self.settings, self.environment = system.settings, system.environment
        self.folder, self.vacuum = folder, system.store_vacuum()
        self.index, self.broker, self.objects = (
            Server(child, folder / "logs" / f"{child.name}.log") for child in (index, broker, objects)
        )

    def empty(self) -> None:
        """Start what a test killed, and delete what it wrote."""
        for url in (self.settings.index_url, self.settings.broker_url):
            connect(url.get_secret_value()).flushall()
        store, keys = ObjectStore.from_settings(self.settings), []
        for name in store.top_level():
            if name.endswith("/"):
                # At once, which costs a third of object by object; and no test finds the empty folders of another,
                # which SeaweedFS keeps for minutes.
                self.vacuum.remove_folder(f"/buckets/{self.settings.s3_bucket}/{name.rstrip('/')}")
            else:
                keys.append(name)
        store.delete(keys)

    def stop(self) -> None:
        """Kill the servers."""
        for server in (self.index, self.broker, self.objects):
            server.kill()


def _change(file: Path, old: str, new: str) -> None:
    """Change what a server's configuration says."""
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{file} has no {old!r}"
    file.write_text(text.replace(old, new), encoding="utf-8")
