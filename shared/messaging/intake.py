"""The intake: originals into the object store, batches of them onto the embed queue, as one job."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from shared.back_off import BackOff
from shared.errors import IndexLost, Misconfigured, Unavailable
from shared.messaging.messages import BatchImage
from shared.messaging.original_intake import TOGETHER, Duplicate, HandedIn, OriginalIntake, Read, Stored
from shared.messaging.worker import WorkerClients
from shared.state import Job, Rejection
from shared.state.job_ids import new_job_id
from shared.state.jobs import RECORD_LOST
from shared.state.outcomes import Outcome
from shared.state.sent_messages import SUBMITTER_S

_POLL_S = 0.2
_LAST, _LAST_POLL_S = 4, 0.05  # batches, for whose end somebody waits
_GROUPS = 2  # of files, for each thread
_LABELLED_AT_ONCE = 512  # duplicates whose labels are compared by one task


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
        self._jobs, self._queue = clients.state.jobs, clients.queue
        self._options = options
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="intake")
        self._originals = OriginalIntake(
            collection, clients, self.job, patience_s=options.patience_s, link=options.link
        )
        self._retry = self._originals.retry_while_away
        self._handed_in: list[HandedIn] = []  # to be stored together
        self._in_flight: deque[Future[list[Stored]]] = deque()
        self._pending: list[BatchImage] = []
        self._labelled: list[BatchImage] = []  # duplicates that were handed in with a label
        self._duplicates = 0
        self.found: list[BatchImage] = []  # without a label, and there or handed in twice
        self._rejected: list[Rejection] = []
        self._batches = 0
        self.total = 0
        self._outstanding: dict[int, list[BatchImage]] = {}
        self.finished = 0  # images accounted for
        self.cancelled = False  # then what is handed in after is not added, so that there is no use in it
        self._pages_left = False  # whether batches of pages are not reported yet
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._retry(lambda: self._jobs.create(self.job, self._collection))
        self._retry(lambda: self._jobs.sent.renew_submitter(self.job))
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
        self._store()
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
        self._handed_in.append(HandedIn(name, label, read))
        if len(self._handed_in) >= TOGETHER:
            self._store()
        if len(self._in_flight) >= _GROUPS * self._options.threads:
            self._take()

    def _store(self) -> None:
        """Have the files stored that were handed in by now."""
        files, self._handed_in = self._handed_in, []
        if files:
            self._in_flight.append(self._threads.submit(self._originals.store, files))

    @property
    def restored(self) -> int:
        """Duplicates whose originals were missing and are there again."""
        return self._originals.restored

    def _take(self) -> None:
        """Wait for the first files in flight and put them into the batch."""
        for stored in self._in_flight.popleft().result():
            self._take_stored(stored)

    def _take_stored(self, stored: Stored) -> None:
        if isinstance(stored, Rejection):
            self._rejected.append(stored)
        elif isinstance(stored, Duplicate):
            self._take_pages(stored.pages)
            if stored.in_job or not stored.image.label:
                self._duplicates += 1
                self.found.append(stored.image)
            else:
                self._labelled.append(stored.image)
                if len(self._labelled) >= _LABELLED_AT_ONCE:
                    self._send_labelled()
        else:
            self._pending.append(stored)
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
            self._retry(lambda: self._queue.embed(job=self.job, batch=batch, collection=self._collection, items=items))

    def _send_labelled(self) -> None:
        """Have the labels compared of images that the collection has."""
        items, self._labelled = self._labelled, []
        if items:
            self._options.before_relabelling(items)
            batch, keep = self._begin_batch(items), self._options.keep_labels
            self._retry(
                lambda: self._queue.relabel(
                    job=self.job, batch=batch, collection=self._collection, items=items, keep=keep
                )
            )

    def _begin_batch(self, items: list[BatchImage]) -> int:
        """Number a batch that is to be sent, after waiting until the workers keep up; returns its number."""
        while len(self._outstanding) >= self._options.max_outstanding:
            self._retry(self.refresh)
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
            self._retry(lambda: self._jobs.report(self.job, batch, outcome))
            self.finished += outcome.images
            self._duplicates, self._rejected = 0, []

    def _extend(self, *, closed: bool) -> None:
        self._retry(lambda: self._jobs.extend(self.job, batches=self._batches, total=self.total, closed=closed))
        self.cancelled = self.cancelled or self._retry(lambda: self._jobs.cancelled(self.job))

    def refresh(self) -> int:
        """Look which batches were reported; returns how many images they have brought since the last look.

        Raises:
            IndexLost: The index was emptied, and the job's record with it.
        """
        reported = self._reported_among(list(self._outstanding))
        brought = sum(len(self._outstanding.pop(batch)) for batch in reported)
        # Before a batch is reported, the batches of pages that were found in it are known.
        all_reported, pages = self._jobs.reports(self.job)
        self._pages_left = pages > 0 and all_reported < self._batches + pages
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
            try:
                self.refresh()
            except (IndexLost, Misconfigured):
                raise
            except Unavailable:  # a server restarts: the job goes on when it is back
                pause_s = back_off.next_s()
            else:
                back_off.reset()
                pause_s = _POLL_S if len(self._outstanding) > _LAST else _LAST_POLL_S
            if on_progress:
                on_progress(self.finished)
            if self._outstanding or self._pages_left:
                time.sleep(pause_s)

    def result(self) -> Job:
        """Return the job as it stands."""
        return self._jobs.get(self.job)

    def outcome(self) -> Outcome:
        """Return what became of the images by now."""
        return self._jobs.outcome(self.job)
