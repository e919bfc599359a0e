"""Stores the originals of files that are handed in: some files together, which share round trips to Redis."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from shared.back_off import Result, retry_while_away
from shared.errors import Invalid, Unavailable
from shared.messaging.files_taken_in import File, LargeFile, LinkedFile, SmallFile
from shared.messaging.lost_index import active_set_name
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.state import Rejection
from shared.state.locks import LEASE_S, link_lock
from shared.storage import layout
from shared.storage.documents import Documents, PageFile
from shared.storage.original_files import OriginalFiles

Read = Callable[[], bytes | Path | Rejection]
"""Reads a file: its bytes, the path of one that is too large for memory, or why it is not taken."""

TOGETHER: Final = 8
"""Files that are handed in together."""

HELD_BYTES: Final = 2**20
"""Bytes of the files that wait in memory for others."""

_OF_DOCUMENTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"%PDF-")  # the first bytes of files that may have pages
_MARKED_S = 0.05
_FRESH_S = 1.0
_STORED: Final[Future[bool]] = Future()  # one for all: a job may have millions
_STORED.set_result(True)


@dataclass(frozen=True)
class HandedIn:
    """A file that is handed in."""

    name: str
    label: str | None
    read: Read


@dataclass(frozen=True)
class Duplicate:
    """An image that the collection has, as it was handed in; or that this job had already.

    `pages` are those of a document that the collection does not have.
    """

    image: BatchImage
    in_job: bool = False
    pages: Sequence[BatchImage] = ()


Stored = BatchImage | Rejection | Duplicate
"""What became of a file: it is stored, it is not taken, or the collection has it."""


class OriginalIntake:
    """Stores the originals of a job; its threads may call it at the same time.

    Servers that are away are waited for, `patience_s` at most. With `link`, originals that are handed in as paths, and
    of which the store has no copy, stay where they are.
    """

    def __init__(self, collection: str, clients: WorkerClients, job: str, *, patience_s: float, link: bool) -> None:
        self._collection, self._clients, self._job = collection, clients, job
        self._patience_s, self._link_files = patience_s, link
        self._active_set = (-math.inf, collection)  # when it was looked up, and the embedding set's name
        self._lock = threading.Lock()
        self._seen: dict[str, Future[bool]] = {}  # whether an original of the job was stored, by digest
        self.restored = 0  # duplicates whose originals were missing and are there again

    def store(self, files: Sequence[HandedIn]) -> list[Stored]:
        """Read and store files; returns what became of each.

        Raises:
            Unavailable: A server is away for too long.
        """
        stored: list[Stored | None] = []
        waiting: dict[int, tuple[HandedIn, File]] = {}
        held = 0

        def store_waiting() -> None:
            for place, answer in zip(waiting, self._store_together(list(waiting.values())), strict=True):
                stored[place] = answer
            waiting.clear()

        for place, handed_in in enumerate(files):
            data = handed_in.read()
            file = data if isinstance(data, Rejection) else self._opened(handed_in.name, data)
            stored.append(file if isinstance(file, Rejection) else None)
            if not isinstance(file, Rejection):
                waiting[place] = handed_in, file
                held += file.size if isinstance(file, SmallFile) else 0
            if held >= HELD_BYTES:
                store_waiting()
                held = 0
        store_waiting()
        return [answer for answer in stored if answer is not None]

    def retry_while_away(self, call: Callable[[], Result]) -> Result:
        """Make a call again while a server is away, as patiently as this intake is."""
        return retry_while_away(call, self._patience_s)

    def _opened(self, name: str, data: bytes | Path) -> File | Rejection:
        """Return a file as it is to be stored, or why it cannot be read or linked."""
        try:
            if not isinstance(data, Path):
                return SmallFile(data)
            return LinkedFile(self._clients.store, data) if self._link_files else LargeFile(data)
        except Invalid as error:
            return Rejection(name, "not-linked", str(error))
        except OSError as error:
            return Rejection(name, "unreadable", f"it cannot be read: {error.strerror or error}")

    def _store_together(self, files: Sequence[tuple[HandedIn, File]]) -> list[Stored]:
        """Store files unless they are there; returns what became of each."""
        first: dict[int, tuple[HandedIn, File]] = {}
        again: dict[int, Future[bool]] = {}  # the job had the same content before; whether that was stored
        for place, (handed_in, file) in enumerate(files):
            before = self._see(file.digest)
            if before is None:
                first[place] = handed_in, file
            else:
                again[place] = before
        stored: dict[int, Stored] = {}
        try:
            stored |= zip(first, self._store_first(list(first.values())), strict=True)
        finally:
            for place, (_, file) in first.items():
                self._settle(file.digest, stored=not isinstance(stored.get(place), Rejection | None))
        for place, before in again.items():  # waited for only when nobody waits for this thread any more
            handed_in, file = files[place]
            if before.result():
                stored[place] = self._in_job(handed_in, file)
            else:  # the file changed while it was read: this one may be whole
                (stored[place],) = self._store_together([(handed_in, file)])
        return [stored[place] for place in range(len(files))]

    def _store_first(self, files: Sequence[tuple[HandedIn, File]]) -> list[Stored]:
        """Store files that the job did not have before, unless they are there; returns what became of each."""
        digests = [file.digest for _, file in files]
        self._pin(digests)
        added = self.retry_while_away(lambda: self._added(digests))
        stored = [self._store(handed_in, file, file.digest in added) for handed_in, file in files]
        # No batch that is sent has the others.
        unpinned = [
            digest for digest, answer in zip(digests, stored, strict=True) if not isinstance(answer, BatchImage)
        ]
        if unpinned:
            self.retry_while_away(lambda: self._clients.state.pins.unpin(unpinned, self._job))
        return stored

    def _see(self, digest: str) -> Future[bool] | None:
        """Return whether an original was stored that the job had before; None: from now on it has it."""
        with self._lock:
            before = self._seen.get(digest)
            if before is None:
                self._seen[digest] = Future()
        return before

    def _settle(self, digest: str, *, stored: bool) -> None:
        """Note whether an original was stored that the job had not before."""
        with self._lock:
            settled = self._seen[digest]
            if stored:
                self._seen[digest] = _STORED
            else:
                del self._seen[digest]
        settled.set_result(stored)

    def _in_job(self, handed_in: HandedIn, file: File) -> Duplicate:
        if isinstance(file, LinkedFile):
            self._store_file(file, added=True)
        return Duplicate(BatchImage(file.digest, handed_in.name, None, file.size), in_job=True)

    def _store(self, handed_in: HandedIn, file: File, added: bool) -> Stored:  # noqa: FBT001
        """Store a file, which is pinned, unless it is there; `added`: the collection has the image."""
        try:
            lost = self._store_file(file, added=added)
        except OSError as error:
            return Rejection(handed_in.name, "unreadable", f"it cannot be read: {error.strerror or error}")
        image = BatchImage(file.digest, handed_in.name, handed_in.label, file.size)
        if not added:
            return image
        with self._lock:
            self.restored += lost
        return Duplicate(image, pages=self._missing_pages(image) if file.head.startswith(_OF_DOCUMENTS) else ())

    def _store_file(self, file: File, *, added: bool) -> bool:
        """Store a file unless the store has it, or link it; returns whether it was lost though it was `added`.

        Raises:
            OSError: It is another one by now.
        """
        store, originals = self._clients.store, OriginalFiles(self._clients.store)
        key = layout.original_key(file.digest)
        if isinstance(file, LinkedFile):
            return self.retry_while_away(lambda: self._link(file, added=added))
        if added and self.retry_while_away(lambda: store.exists(key)):
            return False
        lost = added and not self.retry_while_away(lambda: originals.links.exists(file.digest))
        self.retry_while_away(lambda: file.store(store, key))
        return lost

    def _link(self, file: LinkedFile, *, added: bool) -> bool:
        """Link a file unless the store has a copy of it; returns whether it was lost though it was `added`."""
        store, key = self._clients.store, layout.original_key(file.digest)
        # A link is read, and written with one more path: another intake may do so at the same time.
        with self._clients.state.locks.hold(link_lock(file.digest), wait_s=LEASE_S + 1):
            if store.exists(key):
                return False
            lost = added and not OriginalFiles(store).links.exists(file.digest)
            file.store(store, key)
            return lost

    def _missing_pages(self, image: BatchImage) -> list[BatchImage]:
        """Return the pages of a document, stored and pinned, that the collection does not have any more."""
        documents = Documents(self._clients.store)
        document = self.retry_while_away(lambda: documents.get(image.digest))
        if document is None:
            return []
        missing = []
        for page in range(2, document.pages + 1):
            file = document.page_file(page)
            self._pin([file.digest])
            if self._keep_page(file):
                self.retry_while_away(lambda file=file: self._clients.state.pins.unpin([file.digest], self._job))  # type: ignore[misc]
            else:
                missing.append(replace(image, digest=file.digest, page=page))
        return missing

    def _keep_page(self, file: PageFile) -> bool:
        """Store a page file unless it is there; returns whether the collection has the page."""
        key, store = layout.original_key(file.digest), self._clients.store
        if not self.retry_while_away(lambda: store.exists(key)):
            self.retry_while_away(lambda: store.put(key, file.data))
        return file.digest in self.retry_while_away(lambda: self._added([file.digest]))

    def _pin(self, digests: Sequence[str]) -> None:
        """Have originals stay from now on, after waiting for whoever is just deleting some."""
        pins, until = self._clients.state.pins, time.monotonic() + self._patience_s
        marked = self.retry_while_away(lambda: pins.pin_all(digests, self._job)) if digests else set()
        while marked:
            if time.monotonic() > until:
                pins.unpin(digests, self._job)
                raise Unavailable("an original that is to be added is being deleted at this moment; try again later")
            time.sleep(_MARKED_S)
            marked = self.retry_while_away(lambda: pins.marked(digests))

    def _added(self, digests: Sequence[str]) -> set[str]:
        """Return the originals whose images the collection has."""
        if not digests:
            return set()
        state, set_name = self._clients.state, self._active_set_name()
        holders = state.claims.holders(set_name, [layout.image_id(digest) for digest in digests])
        indexed = state.indexed_segments.among(set_name, sorted({holder for holder in holders if holder is not None}))
        return {digest for digest, holder in zip(digests, holders, strict=True) if holder in indexed}

    def _active_set_name(self) -> str:
        """Return the embedding set that the collection uses, as it was a moment ago."""
        read, set_name = self._active_set
        if time.monotonic() - read > _FRESH_S:
            read, set_name = time.monotonic(), active_set_name(self._collection, self._clients.catalog)
            self._active_set = read, set_name
        return set_name
