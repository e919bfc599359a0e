"""The intake: originals into the object store, batches of them onto the embed queue, as one job."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

from shared.back_off import BackOff
from shared.errors import IndexLost, Invalid, Misconfigured, Unavailable
from shared.messaging.files_taken_in import File, LargeFile, LinkedFile, SmallFile
from shared.messaging.lost_index import active_set_name
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.state import Job, Rejection
from shared.state.jobs import RECORD_LOST, new_job_id
from shared.state.locks import LEASE_S, link_lock
from shared.state.outcomes import Outcome
from shared.state.sent_messages import SUBMITTER_S
from shared.storage import layout
from shared.storage.documents import Documents, PageFile
from shared.storage.original_files import OriginalFiles

Read = Callable[[], bytes | Path | Rejection]
"""Reads a file: its bytes, the path of one that is too large for memory, or why it is not taken."""

Result = TypeVar("Result")

_OF_DOCUMENTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"%PDF-")  # the first bytes of files that may have pages
_POLL_S = 0.2
_MARKED_S = 0.05
_FRESH_S = 1.0
_LABELLED_AT_ONCE = 512  # duplicates whose labels are compared by one task


@dataclass(frozen=True)
class _Duplicate:
    """An image that the collection has, as it was handed in; or that this job had already.

    `pages` are those of a document that the collection does not have.
    """

    image: BatchImage
    in_job: bool = False
    pages: Sequence[BatchImage] = ()


@dataclass(frozen=True, kw_only=True)
class IntakeOptions:
    """How an intake works.

    Attributes:
        batch_size: Images of one embed task.
        threads: Files that are read and stored at a time.
        max_outstanding: Batches that may wait for the embedder before the intake pauses.
        patience_s: Seconds for which a server that is away is waited for.
        keep_labels: Whether an image that is there keeps its label if it is handed in with another.
        link: Whether originals that are handed in as paths, and of which the store has no copy, stay where they are.
        before_relabelling: Gets images that are there and come with labels, before their labels are compared.
    """

    batch_size: int
    threads: int = 4
    max_outstanding: int = 64
    patience_s: float = 120.0
    keep_labels: bool = False
    link: bool = False
    before_relabelling: Callable[[Sequence[BatchImage]], None] = lambda _: None


class Intake:
    """Takes images one by one and hands them to the embedder in batches; use it as a context manager.

    Leaving the block in good order closes the job. Leaving it by an exception leaves the job open; what was sent is
    still taken in, and the sweeper of the maintenance worker closes the job. `wait` follows the job to its end.
    """

    def __init__(self, collection: str, clients: WorkerClients, options: IntakeOptions) -> None:
        self.job = new_job_id()
        self._collection = collection
        self._clients = clients
        self._jobs, self._queue = clients.state.jobs, clients.queue
        self._options = options
        self._active_set = (-math.inf, collection)  # when it was looked up, and the embedding set's name
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="intake")
        self._in_flight: deque[Future[BatchImage | Rejection | _Duplicate]] = deque()
        self._max_in_flight = 4 * options.threads
        self._seen: set[str] = set()  # by the threads, under the lock
        self._lock = threading.Lock()
        self._pending: list[BatchImage] = []
        self._labelled: list[BatchImage] = []  # duplicates that were handed in with a label
        self._duplicates = 0
        self.found: list[BatchImage] = []  # without a label, and there or handed in twice
        self._rejected: list[Rejection] = []
        self._batches = 0
        self.total = 0
        self.restored = 0  # duplicates whose originals were missing and are there again
        self._outstanding: dict[int, list[BatchImage]] = {}
        self.finished = 0  # images accounted for
        self.cancelled = False  # then what is handed in after is not added, so that there is no use in it
        self._pages_left = False  # whether batches of pages are not reported yet
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._retry_while_away(lambda: self._jobs.create(self.job, self._collection))
        self._retry_while_away(lambda: self._jobs.sent.renew_submitter(self.job))
        threading.Thread(target=self._renew, name="submitter", daemon=True).start()
        return self

    def _renew(self) -> None:
        """Give signs of life until the intake ends: of a job without them, the sweeper closes what was handed in."""
        while not self._ended.wait(SUBMITTER_S / 6):
            with suppress(Unavailable):
                self._jobs.sent.renew_submitter(self.job)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._finish(kind)
        finally:
            self._ended.set()
            with suppress(Unavailable):
                self._jobs.sent.end_submitter(self.job)

    def _finish(self, kind: type[BaseException] | None) -> None:
        if kind is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            return
        while self._in_flight:
            self._take()
        self._threads.shutdown()
        self._send()
        self._send_labelled()
        self._report()
        self._extend(closed=True)

    def add(self, name: str, label: str | None, read: Read) -> None:
        """Take an image; `read` is called on another thread and returns its bytes, or why they are not taken."""
        self.total += 1
        self._in_flight.append(self._threads.submit(self._upload, name, label, read))
        if len(self._in_flight) >= self._max_in_flight:
            self._take()

    def _upload(self, name: str, label: str | None, read: Read) -> BatchImage | Rejection | _Duplicate:
        """Store an original unless it is there; returns the image, a rejection, or a duplicate."""
        data = read()
        file = data if isinstance(data, Rejection) else self._opened(name, data)
        if isinstance(file, Rejection):
            return file
        digest = file.digest
        with self._lock:
            seen = digest in self._seen
            self._seen.add(digest)
        if seen:
            if isinstance(file, LinkedFile):
                self._store_file(file, added=True)
            return _Duplicate(BatchImage(digest, name, None, file.size), in_job=True)
        self._pin(digest)
        added = self._retry_while_away(lambda: self._is_added(digest))
        try:
            lost = self._store_file(file, added=added)
        except OSError as error:
            self._retry_while_away(lambda: self._clients.state.pins.unpin([digest], self.job))
            return Rejection(name, "unreadable", f"it cannot be read: {error.strerror or error}")
        if not added:
            return BatchImage(digest, name, label, file.size)
        with self._lock:
            self.restored += lost
        self._retry_while_away(lambda: self._clients.state.pins.unpin([digest], self.job))
        image = BatchImage(digest, name, label, file.size)
        pages = self._missing_pages(image) if file.head.startswith(_OF_DOCUMENTS) else ()
        return _Duplicate(image, pages=pages)

    def _opened(self, name: str, data: bytes | Path) -> File | Rejection:
        """Return a file as it is to be stored, or why it cannot be read or linked."""
        try:
            if not isinstance(data, Path):
                return SmallFile(data)
            return LinkedFile(self._clients.store, data) if self._options.link else LargeFile(data)
        except Invalid as error:
            return Rejection(name, "not-linked", str(error))
        except OSError as error:
            return Rejection(name, "unreadable", f"it cannot be read: {error.strerror or error}")

    def _store_file(self, file: File, *, added: bool) -> bool:
        """Store a file unless the store has it, or link it; returns whether it was lost though it was `added`.

        Raises:
            OSError: It is another one by now.
        """
        store, originals = self._clients.store, OriginalFiles(self._clients.store)
        key = layout.original_key(file.digest)
        if isinstance(file, LinkedFile):
            return self._retry_while_away(lambda: self._link(file, added=added))
        if added and self._retry_while_away(lambda: store.exists(key)):
            return False
        lost = added and not self._retry_while_away(lambda: originals.links.exists(file.digest))
        self._retry_while_away(lambda: file.store(store, key))
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
        document = self._retry_while_away(lambda: documents.get(image.digest))
        if document is None:
            return []
        missing = []
        for page in range(2, document.pages + 1):
            file = document.page_file(page)
            self._pin(file.digest)
            if self._keep_page(file):
                self._retry_while_away(lambda file=file: self._clients.state.pins.unpin([file.digest], self.job))  # type: ignore[misc]
            else:
                missing.append(replace(image, digest=file.digest, page=page))
        return missing

    def _keep_page(self, file: PageFile) -> bool:
        """Store a page file unless it is there; returns whether the collection has the page."""
        key, store = layout.original_key(file.digest), self._clients.store
        if not self._retry_while_away(lambda: store.exists(key)):
            self._retry_while_away(lambda: store.put(key, file.data))
        return self._retry_while_away(lambda: self._is_added(file.digest))

    def _pin(self, digest: str) -> None:
        """Have an original stay from now on, after waiting for whoever is just deleting it."""
        pins, until = self._clients.state.pins, time.monotonic() + self._options.patience_s
        self._retry_while_away(lambda: pins.pin(digest, self.job))
        while self._retry_while_away(lambda: pins.is_marked(digest)):
            if time.monotonic() > until:
                pins.unpin([digest], self.job)
                raise Unavailable("an original that is to be added is being deleted at this moment; try again later")
            time.sleep(_MARKED_S)

    def _is_added(self, digest: str) -> bool:
        set_name = self._active_set_name()
        (holder,) = self._clients.state.claims.holders(set_name, [layout.image_id(digest)])
        return holder is not None and self._clients.state.indexed_segments.contains(set_name, holder)

    def _active_set_name(self) -> str:
        """Return the embedding set that the collection uses, as it was a moment ago."""
        read, set_name = self._active_set
        if time.monotonic() - read > _FRESH_S:
            read, set_name = time.monotonic(), active_set_name(self._collection, self._clients.catalog)
            self._active_set = read, set_name
        return set_name

    def _retry_while_away(self, call: Callable[[], Result]) -> Result:
        """Make a call again while a server is away: one that restarts is away for some seconds.

        What no waiting mends, as a wrong password, is raised at once.
        """
        until, back_off = time.monotonic() + self._options.patience_s, BackOff()
        while True:
            try:
                return call()
            except (IndexLost, Misconfigured):
                raise
            except Unavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(back_off.next_s())

    def _take(self) -> None:
        """Wait for the first image in flight and put it into the batch."""
        taken = self._in_flight.popleft().result()
        if isinstance(taken, Rejection):
            self._rejected.append(taken)
        elif isinstance(taken, _Duplicate):
            self._take_pages(taken.pages)
            if taken.in_job or not taken.image.label:
                self._duplicates += 1
                self.found.append(taken.image)
            else:
                self._labelled.append(taken.image)
                if len(self._labelled) >= _LABELLED_AT_ONCE:
                    self._send_labelled()
        else:
            self._pending.append(taken)
            if len(self._pending) >= self._options.batch_size:
                self._send()
                return
        if self._duplicates + len(self._rejected) >= 16 * self._options.batch_size:
            self._report()

    def _take_pages(self, pages: Sequence[BatchImage]) -> None:
        """Put pages of a document into the batch, which the collection has but for them."""
        self.total += len(pages)
        for page in pages:
            self._pending.append(page)
            if len(self._pending) >= self._options.batch_size:
                self._send()

    def _send(self) -> None:
        """Send the pending batch to the embedder."""
        items, self._pending = self._pending, []
        if items:
            batch = self._begin_batch(items)
            self._retry_while_away(
                lambda: self._queue.embed(job=self.job, batch=batch, collection=self._collection, items=items)
            )

    def _send_labelled(self) -> None:
        """Have the labels compared of images that the collection has."""
        items, self._labelled = self._labelled, []
        if items:
            self._options.before_relabelling(items)
            batch, keep = self._begin_batch(items), self._options.keep_labels
            self._retry_while_away(
                lambda: self._queue.relabel(
                    job=self.job, batch=batch, collection=self._collection, items=items, keep=keep
                )
            )

    def _begin_batch(self, items: list[BatchImage]) -> int:
        """Number a batch that is to be sent, after waiting until the workers keep up; returns its number."""
        while len(self._outstanding) >= self._options.max_outstanding:
            self._retry_while_away(self.refresh)
            time.sleep(_POLL_S)
        batch, self._batches = self._batches, self._batches + 1
        self._outstanding[batch] = items
        self._extend(closed=False)
        return batch

    def _report(self) -> None:
        """Report what needs no embedder as a batch of its own."""
        outcome = Outcome({}, self._duplicates, tuple(self._rejected))
        if outcome.images:
            batch, self._batches = self._batches, self._batches + 1
            self._extend(closed=False)
            self._retry_while_away(lambda: self._jobs.report(self.job, batch, outcome))
            self.finished += outcome.images
            self._duplicates, self._rejected = 0, []

    def _extend(self, *, closed: bool) -> None:
        self._retry_while_away(
            lambda: self._jobs.extend(self.job, batches=self._batches, total=self.total, closed=closed)
        )
        self.cancelled = self.cancelled or self._retry_while_away(lambda: self._jobs.cancelled(self.job))

    def refresh(self) -> int:
        """Look which batches were reported; returns how many images they have brought since the last look.

        Raises:
            IndexLost: The index was emptied, and the job's record with it.
        """
        reported = self._reported_among(list(self._outstanding))
        brought = sum(len(self._outstanding.pop(batch)) for batch in reported)
        # Before a batch is reported, the batches of pages that were found in it are known.
        pages = self._jobs.page_batches(self.job)
        self._pages_left = bool(pages - self._reported_among(sorted(pages))) if pages else False
        self.finished += brought
        return brought

    def _reported_among(self, batches: Sequence[int]) -> set[int]:
        reported = self._jobs.reported_among(self.job, batches)
        if reported is None:
            raise IndexLost(RECORD_LOST)
        return reported

    def wait(self, *, on_progress: Callable[[int], None] | None = None) -> None:
        """Wait until every image is accounted for.

        A batch that nobody has and nobody reports, because the broker lost its message, is sent again by the sweeper of
        the maintenance worker, or ended.
        """
        back_off = BackOff(first_s=_POLL_S)
        while self._outstanding or self._pages_left:
            pause_s = _POLL_S
            try:
                self.refresh()
            except (IndexLost, Misconfigured):
                raise
            except Unavailable:  # a server restarts: the job goes on when it is back
                pause_s = back_off.next_s()
            else:
                back_off.reset()
            if on_progress:
                on_progress(self.finished)
            time.sleep(pause_s)

    def result(self) -> Job:
        """Return the job as it stands."""
        return self._jobs.get(self.job)
