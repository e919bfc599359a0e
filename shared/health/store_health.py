"""Whether the object store takes writes and gives them back, and whether its disk has room where that is ours."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.errors import StoreUnavailable
from shared.settings import SETTINGS_FILE, Settings
from shared.storage.object_store import ObjectStore

PROBE_KEY: Final = ".ready"
"""The object that is written and read back; it always has the same name and content."""

PROBE_CONTENT: Final = b"artseek"
_EVERY_S = 5.0  # between two writes that succeed
_SHARE = 50  # SeaweedFS takes no more writes when one hundredth of its disk is free: the double of it is told
_FULL_SHARE = 64


class StoreHealth:
    """Asks the object store. It is read each time, and written to every few seconds at most."""

    def __init__(self, settings: Settings, store: ObjectStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._store, self._clock = settings, store, clock
        self._written: float | None = None
        self._lock = threading.Lock()

    def ask(self) -> str | None:
        """Return what should be mended soon, or None.

        Raises:
            StoreUnavailable: It does not answer, takes no writes, does not give them back, or its disk is full.
        """
        room = self._disk()
        with self._lock:
            if self._written is None or self._clock() - self._written >= _EVERY_S:
                self._written = None
                self._write()
                self._written = self._clock()
        if self._store.get(PROBE_KEY) != PROBE_CONTENT:
            raise StoreUnavailable(f"the object store gives back another {PROBE_KEY!r} than was written")
        return room

    def _write(self) -> None:
        try:
            self._store.put(PROBE_KEY, PROBE_CONTENT)
        except StoreUnavailable as error:
            room = f"; {self._free()}" if self._is_local else ""
            raise StoreUnavailable(f"the object store takes no writes: {error}{room}") from error

    @property
    def _is_local(self) -> bool:
        """Whether the store is that of `artseek up`, which writes its settings into the data folder."""
        return (self._settings.data / SETTINGS_FILE).is_file()

    def _free(self) -> str:
        return f"{shutil.disk_usage(self._settings.data).free / 2**20:.0f} MiB are free on its disk"

    def _disk(self) -> str | None:
        if not self._is_local:
            return None
        text, is_full = disk_room(self._settings.data, self._settings.least_free_bytes)
        if is_full:
            raise StoreUnavailable(text)
        return text or None


def disk_room(folder: Path, least: int) -> tuple[str, bool]:
    """Return what to say of the room on a folder's disk, empty if there is enough, and whether it counts as full."""
    disk = shutil.disk_usage(folder)
    if disk.free >= max(least, disk.total // _SHARE):
        return "", False
    text = (
        f"only {disk.free / 2**20:.0f} MiB are free on the disk of {str(folder)!r}: "
        "free some space, or move the data folder to a larger disk"
    )
    return text, disk.free < least // _FULL_SHARE
