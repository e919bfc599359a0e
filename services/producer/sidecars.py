"""Sidecars: XMP files beside images, which say more of them."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shared.back_off import retry_while_away
from shared.folders import Source
from shared.records.embedded import Fields, sidecar_fields
from shared.records.metadata_blocks import MAX_BLOCK
from shared.records.record_store import RecordStore
from shared.state import Rejection
from shared.storage.layout import digest_of, digest_of_file, image_id

_SUFFIX = ".xmp"
_AT_ONCE = 1000  # images of a change


class Sidecars:
    """Reads the sidecars of images as they are handed in, and stores what they say in the records of a collection.

    The threads of an intake may read at the same time. A store that is away is waited for, `patience_s` at most.
    """

    def __init__(self, records: RecordStore, collection: str, *, patience_s: float = 120.0) -> None:
        self._records, self._collection, self._patience_s = records, collection, patience_s
        self._lock = threading.Lock()
        self._pending: dict[int, Fields] = {}

    def reading(
        self, source: Source, read: Callable[[], bytes | Path | Rejection]
    ) -> Callable[[], bytes | Path | Rejection]:
        """Return a function that reads an image as `read` does, and its sidecar."""
        sidecar = _sidecar_of(source.path)
        if sidecar is None:
            return read

        def read_both() -> bytes | Path | Rejection:
            data = read()
            if not isinstance(data, Rejection) and (fields := _fields(sidecar)):
                with suppress(OSError):  # the intake finds it, too
                    digest = digest_of(data) if isinstance(data, bytes) else digest_of_file(data)
                    self._add(image_id(digest), fields)
            return data

        return read_both

    def _add(self, image: int, fields: Fields) -> None:
        with self._lock:
            self._pending[image] = fields
            full = len(self._pending) >= _AT_ONCE
        if full:
            self.store()

    def store(self) -> None:
        """Store what was read.

        Raises:
            Unavailable: The store does not answer.
        """
        with self._lock:  # what another thread reads from now on belongs to the next change
            read, self._pending = self._pending, {}
        if read:
            retry_while_away(lambda: self._records.say(self._collection, "sidecar", read), self._patience_s)


def _sidecar_of(path: Path) -> Path | None:
    """Return the sidecar of an image: ``a.xmp`` or ``a.jpg.xmp``."""
    for name in (path.stem, path.name):
        for suffix in (_SUFFIX, _SUFFIX.upper()):
            candidate = path.with_name(name + suffix)
            if os.path.isfile(candidate):  # noqa: PTH113 -- a `Path` raises at a name that is too long
                return candidate
    return None


def sidecar_of(source: Source) -> bytes:
    """Return the bytes of the XMP file beside an image; empty: there is none that can be read."""
    path = _sidecar_of(source.path)
    try:
        return path.read_bytes() if path is not None and path.stat().st_size <= MAX_BLOCK else b""
    except OSError:
        return b""


def _fields(path: Path) -> Fields:
    try:
        return sidecar_fields(path.read_bytes()) if path.stat().st_size <= MAX_BLOCK else {}
    except OSError:
        return {}
