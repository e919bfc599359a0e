"""The intake: originals into the object store, batches of them onto the embed queue, as one job."""

import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeVar

from shared.errors import ArtseekError, IndexLost, Unavailable
from shared.messaging.lost_index import active_set_name
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.state import Job, Rejection
from shared.state.jobs import RECORD_LOST, Outcome, new_job_id
from shared.storage import layout

Read = Callable[[], bytes | Rejection]
Result = TypeVar("Result")

_POLL_S = 0.2
_PAUSE_S = 0.5
_FRESH_S = 1.0
_MAX_SENDINGS = 3


@dataclass(frozen=True, kw_only=True)
class IntakeOptions:
    """How an intake works.

    Attributes:
        batch_size: Images of one embed task.
        threads: Files that are read and stored at a time.
        max_outstanding: Batches that may wait for the embedder before the intake pauses.
        patience_s: Seconds for which a server that is away is waited for.
    """

    batch_size: int
    threads: int = 4
    max_outstanding: int = 64
    patience_s: float = 120.0


class Intake:
    """Takes images one by one and hands them to the embedder in batches; use it as a context manager.

    Leaving the block in good order closes the job. Leaving it by an exception leaves the job open; what was sent is
    still worked off. `wait` follows the job to its end.
    """

    def __init__(self, collection: str, clients: WorkerClients, options: IntakeOptions) -> None:
        self.job = new_job_id()
        self._collection = collection
        self._clients = clients
        self._jobs, self._queue = clients.state.jobs, clients.queue
        self._options = options
        self._active_set = (-math.inf, collection)  # when it was looked up, and the embedding set's name
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="intake")
        self._in_flight: deque[Future[BatchImage | Rejection | None]] = deque()
        self._max_in_flight = 4 * options.threads
        self._seen: set[str] = set()
        self._pending: list[BatchImage] = []
        self._duplicates = 0
        self._rejected: list[Rejection] = []
        self._batches = 0
        self.total = 0
        self._outstanding: dict[int, list[BatchImage]] = {}
        self.finished = 0  # images accounted for

    def __enter__(self) -> Self:
        self._retry_while_away(lambda: self._jobs.create(self.job, self._collection))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            return
        while self._in_flight:
            self._take()
        self._threads.shutdown()
        self._send()
        self._report()
        self._extend(closed=True)

    def add(self, name: str, label: str | None, read: Read) -> None:
        """Take an image; `read` is called on another thread and returns its bytes, or why they are not taken."""
        self.total += 1
        self._in_flight.append(self._threads.submit(self._upload, name, label, read))
        if len(self._in_flight) >= self._max_in_flight:
            self._take()

    def _upload(self, name: str, label: str | None, read: Read) -> BatchImage | Rejection | None:
        """Store an original unless the collection has it; returns the image, a rejection, or None for a duplicate."""
        data = read()
        if isinstance(data, Rejection):
            return data
        digest = layout.digest_of(data)
        if self._retry_while_away(lambda: self._is_added(digest)):
            return None
        self._retry_while_away(lambda: self._clients.store.put(layout.original_key(digest), data))
        return BatchImage(digest, name, label, len(data))

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
        """Make a call again while a server is away: one that restarts is away for some seconds."""
        until = time.monotonic() + self._options.patience_s
        while True:
            try:
                return call()
            except Unavailable as error:
                if isinstance(error, IndexLost) or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)

    def _take(self) -> None:
        """Wait for the first image in flight and put it into the batch."""
        taken = self._in_flight.popleft().result()
        if isinstance(taken, Rejection):
            self._rejected.append(taken)
        elif taken is None or taken.digest in self._seen:
            self._duplicates += 1
        else:
            self._seen.add(taken.digest)
            self._pending.append(taken)
            if len(self._pending) >= self._options.batch_size:
                self._send()
                return
        if self._duplicates + len(self._rejected) >= 16 * self._options.batch_size:
            self._report()

    def _send(self) -> None:
        """Send the pending batch, after waiting until the embedder keeps up."""
        if not self._pending:
            return
        while len(self._outstanding) >= self._options.max_outstanding:
            self._retry_while_away(self.refresh)
            time.sleep(_POLL_S)
        batch, items = self._batches, self._pending
        self._batches, self._pending = batch + 1, []
        self._outstanding[batch] = items
        self._extend(closed=False)
        self._retry_while_away(
            lambda: self._queue.embed(job=self.job, batch=batch, collection=self._collection, items=items)
        )

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

    def refresh(self) -> int:
        """Look which batches were reported; returns how many images they have brought since the last look.

        Raises:
            IndexLost: The index was emptied, and the job's record with it.
        """
        reported = self._jobs.progress(self.job)
        if reported is None:
            raise IndexLost(RECORD_LOST)
        brought = sum(len(self._outstanding.pop(batch)) for batch in reported & self._outstanding.keys())
        self.finished += brought
        return brought

    def wait(self, *, stalled_after_s: float, on_progress: Callable[[int], None] | None = None) -> None:
        """Wait until every image is accounted for.

        A batch that nobody has and nobody reports, because the broker lost its message, is sent again after
        `stalled_after_s`; it counts once all the same.
        """
        moved, sendings = time.monotonic(), 0
        while self._outstanding:
            try:
                if self.refresh():
                    moved, sendings = time.monotonic(), 0
                elif time.monotonic() - moved > stalled_after_s and not any(self._queue.waiting().values()):
                    self._send_again(sendings)
                    moved, sendings = time.monotonic(), sendings + 1
            except IndexLost:
                raise
            except Unavailable:
                pass  # a server restarts: the job goes on when it is back
            if on_progress:
                on_progress(self.finished)
            time.sleep(_POLL_S)

    def result(self) -> Job:
        """Return the job as it stands."""
        return self._jobs.get(self.job)

    def _send_again(self, sendings: int) -> None:
        if sendings == _MAX_SENDINGS:
            raise ArtseekError(
                f"{len(self._outstanding)} batches of the job {self.job} were sent {sendings + 1} times and never "
                "reported; see the logs of embedder and indexer"
            )
        for batch, items in self._outstanding.items():
            self._queue.embed(job=self.job, batch=batch, collection=self._collection, items=items)
