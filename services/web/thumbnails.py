"""Thumbnails: made on the first request, then cached in memory; the least recently used are dropped first."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from shared.images import Decoder
from shared.index.derivatives import Derivatives
from shared.storage.documents import fetched_page
from shared.storage.large_objects import fetched
from shared.storage.object_store import ObjectStore

SIDE = 256
"""Pixels of the longer side. It is a part of the tag by which browsers keep thumbnails."""

MEDIA_TYPE = "image/jpeg"
_CACHE_BYTES = 32 * 2**20


class Thumbnails:
    """Makes and caches thumbnails of stored originals."""

    def __init__(self, store: ObjectStore, decoder: Decoder, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self._store = store
        self._decoder = decoder
        self._derivatives = Derivatives(store, decoder)
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

    def make(self, digest: str, *, key: str | None = None, size: int = 0) -> bytes:
        """Make and cache the thumbnail, a JPEG, of the original with this digest.

        `key` is the key of the original in the object store, if it is not the usual one; `size` its size in bytes.

        Raises:
            ImageRefused: The original cannot be decoded.
            ObjectNotFound: There is no such original.
            StoreUnavailable: The object store does not answer.
            DecodersBusy: Too many images wait to be decoded.
        """
        derivative = self._derivatives.get(digest) if key is None else None
        if derivative is not None:
            data = self._decoder.thumbnail(derivative.data, box=SIDE)
        else:
            with self._original(digest, key, size) as (original, page):
                data = self._decoder.thumbnail(original, box=SIDE, page=page)
        with self._lock:
            if digest not in self._cache:
                self._cache[digest] = data
                self._size += len(data)
            while self._size > self._cache_bytes:
                self._size -= len(self._cache.popitem(last=False)[1])
        return data

    @contextmanager
    def _original(self, digest: str, key: str | None, size: int) -> Iterator[tuple[bytes | BinaryIO, int]]:
        """What an image is decoded from, and which page of it it is."""
        if key is None:
            with fetched_page(self._store, digest, size) as found:
                yield found
        else:
            with fetched(self._store, key, size) as original:
                yield original, 1
