"""Thumbnails: made on the first request, kept in the store, and in memory as long as there is room for them.

A thumbnail begins with a note of its format and size: one of another size, as a later version may make, is made anew.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from shared.errors import ObjectNotFound, StoreUnavailable
from shared.images import Decoder
from shared.images.jpeg_notes import note_of, with_note
from shared.index.derivatives import Derivatives
from shared.storage import layout
from shared.storage.documents import fetched_page
from shared.storage.large_objects import fetched
from shared.storage.object_store import ObjectStore
from shared.storage.original_files import OriginalFiles

_log = logging.getLogger(__name__)

SIDE = 256
"""Pixels of the longer side. It is a part of the tag by which browsers keep thumbnails."""

MEDIA_TYPE = "image/jpeg"
_FORMAT = 1
_CACHE_BYTES = 32 * 2**20


class Thumbnails:
    """Makes and keeps thumbnails of stored originals. `shared.index.originals` deletes them, with their originals."""

    def __init__(self, store: ObjectStore, decoder: Decoder, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self._store = store
        self._decoder = decoder
        self._derivatives, self._originals = Derivatives(store, decoder), OriginalFiles(store)
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, digest: str, *, key: str | None = None) -> bytes | None:
        """Return the thumbnail of the original with this digest as it was kept; None if it was not.

        `key` is the key of the original in the object store, if it is not the usual one: its thumbnail is kept in
        memory alone.

        Raises:
            StoreUnavailable: The object store does not answer.
        """
        with self._lock:
            if digest in self._cache:
                self._cache.move_to_end(digest)
                return self._cache[digest]
        if key is not None:
            return None
        try:
            data = self._store.get(layout.thumbnail_key(digest))
        except ObjectNotFound:
            return None
        if (note_of(data, version=_FORMAT) or {}).get("side") != SIDE:
            return None
        self._remember(digest, data)
        return data

    def make(self, digest: str, *, key: str | None = None, size: int = 0) -> bytes:
        """Make and keep the thumbnail, a JPEG, of the original with this digest.

        `key` as for `get`; `size` is the size of the original in bytes.

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
        data = with_note(data, {"side": SIDE}, version=_FORMAT)
        if key is None:
            self._keep_in_store(digest, data)
        self._remember(digest, data)
        return data

    def _keep_in_store(self, digest: str, data: bytes) -> None:
        """Keep a thumbnail in the store; where that does not take it, it can be shown all the same."""
        try:
            self._store.put(layout.thumbnail_key(digest), data, MEDIA_TYPE)
            if not self._originals.exists(digest):  # deleted meanwhile, and its thumbnail with it
                self._store.delete([layout.thumbnail_key(digest)])
        except StoreUnavailable as error:
            _log.warning("a thumbnail is not kept: %s", error)

    def _remember(self, digest: str, data: bytes) -> None:
        with self._lock:
            if digest not in self._cache:
                self._cache[digest] = data
                self._size += len(data)
            while self._size > self._cache_bytes:
                self._size -= len(self._cache.popitem(last=False)[1])

    @contextmanager
    def _original(self, digest: str, key: str | None, size: int) -> Iterator[tuple[bytes | BinaryIO, int]]:
        """What an image is decoded from, and which page of it it is."""
        if key is None:
            with fetched_page(self._store, digest, size) as found:
                yield found
        else:
            with fetched(self._store, key, size) as original:
                yield original, 1
