"""From originals to pixels: images are fetched and decoded, and those that kill their decoder are set aside."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO, TypeVar

from services.embedder.decoded import Decoded, DecodedWindows
from services.embedder.derived_images import DerivedImages
from services.embedder.document_pages import DocumentPages
from services.embedder.metadata import embedded_metadata
from shared.errors import ObjectNotFound
from shared.images import Decoder, ImageRefused
from shared.images.decoder_pool import DecoderDied
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.state import Rejection
from shared.state.attempts import Attempt
from shared.storage import layout
from shared.storage.documents import fetched_page
from shared.storage.object_store import ObjectStore
from shared.storage.original_files import LinkChanged, LinkMissing, OriginalFiles

_log = logging.getLogger(__name__)

_STRIKES = 2  # times a decoder, or a task that waits for it, may die of an image
_VANISHED = 10  # times a whole worker may vanish while an image is in its decoder: that may have other reasons
_THREADS = 2  # as many as there are decoders; each also waits for the store

_Made = TypeVar("_Made")


class ImageDecoding:
    """Fetches and decodes the images of batches; one that stops its decoder again and again is set aside."""

    def __init__(self, clients: WorkerClients, decoder: Decoder, *, program: str, pages: DocumentPages) -> None:
        self._store, self._attempts = clients.store, clients.state.attempts
        self._decoder, self._program, self._pages = decoder, program, pages
        self._derived = DerivedImages(clients.store, decoder)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")

    def count_strike(self, attempt: Attempt, items: Sequence[BatchImage]) -> None:
        """Count that the last attempt died in the decoder of an image; set the image aside if that was too often."""
        item = next((item for item in items if item.digest == attempt.died_at), None)
        if item is None:
            return
        if attempt.killed:
            strikes, limit = attempt.strike(item.digest), _STRIKES
        else:
            strikes, limit = attempt.strike(f"vanished:{item.digest}"), _VANISHED
        if strikes >= limit:
            self._set_aside(attempt, item)

    def _set_aside(self, attempt: Attempt, item: BatchImage) -> None:
        """Have this version of the program not touch an image again."""
        _log.error("%s stopped its decoder or its worker again and again, and is set aside", item.name)
        report = {"name": item.name, "size": item.size, "program": self._program, "set_aside": time.time()}
        attempt.check()
        self._store.put(layout.set_aside_key(item.digest), json.dumps(report).encode(), "application/json")
        self._attempts.set_aside(self._program, item.digest)

    def set_aside_earlier(self, items: Sequence[BatchImage]) -> dict[str, Rejection]:
        """Return the images of a batch that were set aside, by their digests, and what is said of each."""
        flags = self._attempts.are_set_aside(self._program, [item.digest for item in items])
        return {item.digest: self._set_aside_rejection(item) for item, flag in zip(items, flags, strict=True) if flag}

    def _set_aside_rejection(self, item: BatchImage) -> Rejection:
        reason = (
            f"decoding it stopped its decoder again and again, so artseek {self._program} will not try it "
            "again; save it anew with another program"
        )
        return Rejection(item.title, "set-aside", reason)

    def decode(
        self, attempt: Attempt, items: Sequence[BatchImage], *, size: int, moving: bool
    ) -> Iterator[tuple[BatchImage, Decoded | Rejection]]:
        """Fetch and decode images; yield each with its pixels, or why it has none.

        Images that are `moving` to another model are decoded from their derivatives where there are some. After an
        attempt that died, images are decoded one by one, with a note of the image at work.
        """
        noted = attempt.deaths > 0

        def decode(item: BatchImage) -> Decoded | Rejection:
            found: Decoded | Rejection | None = self._derived.decode(item, size=size) if moving else None
            found = found or self.decode_one(attempt, item, size=size, noted=noted, new=not moving)
            if isinstance(found, Decoded):
                return replace(found, document=self._pages.place_of(item, found.info.pages))
            return found

        yield from zip(items, map(decode, items) if noted else self._threads.map(decode, items), strict=True)

    def decode_windows(
        self, attempt: Attempt, items: Sequence[BatchImage], *, size: int
    ) -> Iterator[tuple[BatchImage, DecodedWindows | Rejection]]:
        """Yield each image with its windows, or why it has none; decoded from its derivative where there is one.

        After an attempt that died, they are decoded one by one, with a note of the image at work.
        """
        noted = attempt.deaths > 0

        def decode(item: BatchImage) -> DecodedWindows | Rejection:
            def cut(data: bytes | BinaryIO) -> DecodedWindows:
                return DecodedWindows(item, *self._decoder.windows(data, size=size, page=item.page))

            derived = self._derived.windows(item, size=size)
            found = self._fetched(attempt, item, cut, noted=noted) if derived is None else derived
            if isinstance(found, DecodedWindows):
                return replace(found, document=self._pages.place_of(item, found.info.pages))
            return found

        yield from zip(items, map(decode, items) if noted else self._threads.map(decode, items), strict=True)

    def decode_one(
        self, attempt: Attempt, item: BatchImage, *, size: int, noted: bool = False, new: bool = False
    ) -> Decoded | Rejection:
        """Fetch and decode an image; if `noted`, the attempt has a note of it while it is in its decoder.

        If it is `new`, its derivative is made and its metadata are read.
        """

        def decode(data: bytes | BinaryIO) -> Decoded:
            pixels, info = self._decoder.decode(data, size=size, page=item.page)
            if not new:
                return Decoded(item, pixels, info)
            self._derived.derive(item, data, info)
            return Decoded(item, pixels, info, embedded_metadata(self._decoder, item.name, data))

        return self._fetched(attempt, item, decode, noted=noted)

    def _fetched(
        self, attempt: Attempt, item: BatchImage, decode: Callable[[bytes | BinaryIO], _Made], *, noted: bool
    ) -> _Made | Rejection:
        """Fetch an image and decode it; returns why it is not taken, if it is not."""
        try:
            # A file is what it is; that it is a page file of ours, the message says.
            opened = fetched_page if item.page > 1 else _fetched_file
            with opened(self._store, item.digest, item.size) as (data, page):
                if page != item.page:
                    raise ObjectNotFound(layout.original_key(item.digest))
                if noted:
                    attempt.note_item(item.digest)
                try:
                    return self._decode_fetched(attempt, item, data, decode)
                finally:
                    if noted:
                        attempt.clear_item()
        except ImageRefused as refusal:
            return Rejection(item.title, refusal.reason, str(refusal))
        except LinkChanged as error:
            return Rejection(item.title, "link-changed", str(error))
        except LinkMissing as error:
            return Rejection(item.title, "link-missing", str(error))
        except ObjectNotFound:
            return Rejection(
                item.title,
                "original-missing",
                "its original is missing from the object store; add the same file again",
            )

    def _decode_fetched(
        self,
        attempt: Attempt,
        item: BatchImage,
        data: bytes | BinaryIO,
        decode: Callable[[bytes | BinaryIO], _Made],
    ) -> _Made | Rejection:
        """Decode an image; one whose decoder dies again is set aside.

        Raises:
            ImageRefused: It is not taken.
        """
        while True:
            try:
                return decode(data)
            except DecoderDied:
                if attempt.strike(item.digest) >= _STRIKES:
                    self._set_aside(attempt, item)
                    return self._set_aside_rejection(item)


@contextmanager
def _fetched_file(store: ObjectStore, digest: str, size: int) -> Iterator[tuple[bytes | BinaryIO, int]]:
    with OriginalFiles(store).fetched(digest, size) as data:
        yield data, 1
