"""Valkey and SeaweedFS alone, as the local system runs them."""

from pathlib import Path

from local.data_folder import DataFolder
from local.system import LocalSystem
from shared.state import connect
from shared.storage import layout
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
        self.settings, self.environment = system.settings, system.environment
        self.folder, self.vacuum = folder, system.store_vacuum()
        self.index, self.broker, self.objects = (
            Server(child, folder / "logs" / f"{child.name}.log") for child in (index, broker, objects)
        )

    def empty(self) -> None:
        """Start what a test killed, and delete what it wrote."""
        for url in (self.settings.index_url, self.settings.broker_url):
            connect(url.get_secret_value()).flushall()
        store = ObjectStore.from_settings(self.settings)
        store.delete([item.key for item in store.list("")])
        # SeaweedFS keeps empty folders for minutes; a test is not to find those of hundreds before it.
        self.vacuum.remove_folder(f"/buckets/{self.settings.s3_bucket}/{layout.VECTORS}")

    def stop(self) -> None:
        """Kill the servers."""
        for server in (self.index, self.broker, self.objects):
            server.kill()
