"""Thumbnails: made when first asked for, kept in memory up to a bound, the least lately used going first."""

import threading
from collections import OrderedDict

from shared.images import Limits, thumbnail
from shared.storage import layout
from shared.storage.object_store import ObjectStore

BOX = 256  # pixels of the longer side
MEDIA_TYPE = "image/jpeg"
_KEPT_BYTES = 32 * 2**20


class Thumbnails:
    """Makes thumbnails of stored originals."""

    def __init__(self, store: ObjectStore, limits: Limits, *, kept_bytes: int = _KEPT_BYTES) -> None:
        self._store = store
        self._limits = limits
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, digest: str) -> bytes | None:
        """Return a thumbnail that is at hand, None if it must be made."""
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)

    def make(self, digest: str, *, key: str | None = None) -> bytes:
        """Return the thumbnail, a JPEG, of the original with this digest, which lies at `key` if not with the others.

        Raises:
            ImageRefused: The original cannot be decoded.
            ObjectNotFound: There is no such original.
            StoreUnavailable: The object store does not answer.
        """
        data = thumbnail(self._store.get(key or layout.original_key(digest)), box=BOX, limits=self._limits)
        with self._lock:
            if digest not in self._kept:
                self._kept[digest] = data
                self._bytes += len(data)
            while self._bytes > self._kept_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return data
