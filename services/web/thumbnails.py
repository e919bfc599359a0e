"""Thumbnails: made on the first request, then cached in memory; the least recently used are dropped first."""

import threading
from collections import OrderedDict

from shared.images import Limits, thumbnail
from shared.storage import layout
from shared.storage.object_store import ObjectStore

BOX = 256  # pixels of the longer side
MEDIA_TYPE = "image/jpeg"
_CACHE_BYTES = 32 * 2**20


class Thumbnails:
    """Makes and caches thumbnails of stored originals."""

    def __init__(self, store: ObjectStore, limits: Limits, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self._store = store
        self._limits = limits
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, digest: str) -> bytes | None:
        """Return the cached thumbnail of the original with this digest; None if it is not cached."""
        with self._lock:
            if digest in self._cache:
                self._cache.move_to_end(digest)
            return self._cache.get(digest)

    def make(self, digest: str, *, key: str | None = None) -> bytes:
        """Make and cache the thumbnail, a JPEG, of the original with this digest.

        `key` is the key of the original in the object store, if it is not the usual one.

        Raises:
            ImageRefused: The original cannot be decoded.
            ObjectNotFound: There is no such original.
            StoreUnavailable: The object store does not answer.
        """
        data = thumbnail(self._store.get(key or layout.original_key(digest)), box=BOX, limits=self._limits)
        with self._lock:
            if digest not in self._cache:
                self._cache[digest] = data
                self._size += len(data)
            while self._size > self._cache_bytes:
                self._size -= len(self._cache.popitem(last=False)[1])
        return data
