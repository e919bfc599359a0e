"""Batches of images on their way into an embedding set that is being filled, or into the regions of a collection."""

import time
from collections.abc import Callable

from shared.errors import Unavailable
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import TaskQueue
from shared.state import State
from shared.state.job_ids import new_job_id
from shared.state.outcomes import Outcome
from shared.storage import layout
from shared.storage.catalog import Catalog, EmbeddingSet

BATCH_SIZE = 32
_OUTSTANDING = 8  # batches
_POLL_S = 0.1


class EmbeddingBatches:
    """Sends batches to the embedder as a job of their own and waits; `on_progress` is called as they arrive.

    At most `outstanding` of them are with the embedder at a time: what others send waits behind them.
    """

    def __init__(
        self,
        state: State,
        queue: TaskQueue,
        embedding_set: EmbeddingSet,
        on_progress: Callable[[], None],
        *,
        outstanding: int = _OUTSTANDING,
    ) -> None:
        self._most = outstanding
        self._state, self._queue, self._embedding_set = state, queue, embedding_set
        self._on_progress = on_progress
        self._job = ""
        self._outstanding: dict[int, list[BatchImage]] = {}
        self.sent = 0

    def send(self, items: list[BatchImage], until: float) -> None:
        """Send a batch, after waiting until some of those before have arrived.

        Raises:
            Unavailable: They have not arrived by `until`, on the monotonic clock.
        """
        while len(self._outstanding) >= self._most:
            if not self._take_arrived(until):
                raise Unavailable("the embedder does not keep up")
        embedding_set, jobs = self._embedding_set, self._state.jobs
        if not self._job:
            self._job = new_job_id()
            jobs.create(self._job, embedding_set.collection, listed=False)
        self._outstanding[self.sent] = items
        jobs.extend(self._job, batches=self.sent + 1, total=0, closed=True)
        self._queue.embed(
            job=self._job,
            batch=self.sent,
            collection=embedding_set.collection,
            items=items,
            set_name=embedding_set.name,
        )
        self.sent += 1

    def wait(self, until: float) -> bool:
        """Wait for all batches; returns whether they arrived in time. Those that did not are sent anew later."""
        while self._outstanding:
            if not self._take_arrived(until):
                return False
        if self._job:
            self._state.jobs.forget(self._job)
        return True

    def _take_arrived(self, until: float) -> bool:
        """Take note of the batches that have arrived; returns False if none has and time is up."""
        arrived = self._state.jobs.reported_among(self._job, list(self._outstanding))
        if arrived is None:
            raise Unavailable("the index was lost while images were embedded")
        if arrived:
            for batch in sorted(arrived):
                self._note_failed(batch, self._outstanding.pop(batch))
            self._on_progress()
            return True
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
        return True

    def _note_failed(self, batch: int, items: list[BatchImage]) -> None:
        """Note the images of a batch that the embedder rejected; others, which have arrived, may have the same names.

        An image has arrived if its claim is that of an indexed segment: a task that died may have left another claim.
        """
        outcome = self._state.jobs.batch_outcome(self._job, batch)
        rejections = {rejection.name: rejection for rejection in outcome.rejected} if outcome else {}
        suspects = [item for item in items if item.title in rejections]
        set_name = self._embedding_set.name
        # The first window of an image stands for all of them.
        ids = [
            layout.window_id(item.digest, 0) if layout.is_regions(set_name) else layout.image_id(item.digest)
            for item in suspects
        ]
        holders = self._state.claims.holders(set_name, ids)
        indexed = self._state.indexed_segments.among(set_name, sorted({holder for holder in holders if holder}))
        failed = {
            layout.image_id(item.digest): rejections[item.title]
            for item, holder in zip(suspects, holders, strict=True)
            if holder not in indexed
        }
        self._state.model_changes.add_failed(set_name, failed)


def index_written(embedding_set: EmbeddingSet, catalog: Catalog, state: State, queue: TaskQueue) -> None:
    """Have the segments indexed that are written but not indexed: the message for it may have been lost."""
    written = set(catalog.segments(embedding_set.name))
    for segment in sorted(written - state.indexed_segments.all(embedding_set.name)):
        if (batch := layout.batch_of(segment)) is not None:
            queue.index(set_name=embedding_set.name, segment=segment, job=batch[0], batch=batch[1], outcome=Outcome())
