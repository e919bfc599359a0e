"""Live recall: a share of the index's answers is compared with an exact scan in the background.

It never holds up a search. Answers wait in a short queue; an answer that comes while the queue is full is counted and
not checked. One thread of low priority checks them, and rests after each block for as long as it worked; in a large
collection, whose scans would follow each other without end, for a multiple of that.
"""

import logging
import os
import queue
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from services.query.metrics import Metrics
from services.query.replica.mapped_segment import Vectors
from services.query.replica.view import RowFilter
from services.query.replica.window_filter import WindowFilter
from services.query.search.ranking import Hit, best_of_images, rank, with_score
from shared.errors import Unavailable
from shared.evaluation.retrieval_metrics import recall_at_k
from shared.rpc.query import Metric
from shared.state.recall_log import HourOfRecall, RecallLog, hour_of

_log = logging.getLogger(__name__)

_QUEUED = 16  # answers that wait: each holds its view of the collection, of which one byte a row may be its own
_BLOCK = 2**20  # numbers compared at a time: so few that no thread of the searches is asked to help
_LARGE = 1_000_000  # rows, of which each so many are worth as much rest as work
_LOWEST = 19  # as `nice` counts


@dataclass(frozen=True, kw_only=True)
class AnsweredSearch:
    """A search that the index answered.

    Attributes:
        query: float32 [dim].
        searched: The images, and windows of images, that the search could find at the moment of the answer.
        hits: The answer, at most k.
    """

    collection: str
    query: Vectors
    searched: Sequence[RowFilter | WindowFilter]
    k: int
    metric: Metric
    min_score: float | None
    hits: Sequence[Hit]


class LiveRecall:
    """Checks a share of the answers that it is offered, 0 to 1, and keeps their recall in `log` and `metrics`."""

    def __init__(self, share: float, log: RecallLog, metrics: Metrics) -> None:
        self._share = share
        self._log, self._metrics = log, metrics
        self._waiting: queue.Queue[AnsweredSearch] = queue.Queue(_QUEUED)
        self._lock = threading.Lock()
        self._hours: dict[tuple[str, int], HourOfRecall] = {}  # this hour, and hours that are not written yet
        self._unwritten: set[tuple[str, int]] = set()
        self._thread = threading.Thread(target=self._run, name="recall", daemon=True)

    def start(self) -> None:
        """Begin to check, on a thread of its own."""
        self._thread.start()

    def offer(self, answered: AnsweredSearch) -> None:
        """Check an answer later if it is drawn for the sample; never waits, never fails."""
        if random.random() >= self._share:  # noqa: S311 -- a sample
            return
        try:
            self._waiting.put_nowait(answered)
        except queue.Full:
            self._metrics.recall_dropped(answered.collection)
            self._count(answered.collection, dropped=1)

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)  # on Linux, of this thread alone
        while True:
            self._check(self._waiting.get())  # and hold its views no longer

    def _check(self, answered: AnsweredSearch) -> None:
        try:
            recall = recall_of(answered)
        except Exception:
            _log.exception("an answer of %s could not be checked", answered.collection)
            return
        if recall is not None:
            self._metrics.recall(answered.collection, recall)
            self._count(answered.collection, sampled=1, total=recall)
            self._write()

    def _count(self, collection: str, *, sampled: int = 0, total: float = 0.0, dropped: int = 0) -> None:
        hour = hour_of(time.time())
        with self._lock:
            before = self._hours.get((collection, hour), HourOfRecall(hour))
            self._hours[collection, hour] = replace(
                before,
                sampled=before.sampled + sampled,
                total=before.total + total,
                dropped=before.dropped + dropped,
            )
            self._unwritten.add((collection, hour))

    def _write(self) -> None:
        """Write the hours that have changed; if the index does not answer, they are written the next time."""
        now = hour_of(time.time())
        with self._lock:
            changed = {key: self._hours[key] for key in self._unwritten}
            self._unwritten.clear()
        for key, recall in changed.items():
            collection, _ = key
            try:
                self._log.write(collection, recall)
            except Unavailable as error:
                _log.debug("recall is written later: %s", error)
                with self._lock:
                    self._unwritten.add(key)
        with self._lock:  # an hour that is over and written does not change any more
            self._hours = {
                key: recall for key, recall in self._hours.items() if key[1] >= now or key in self._unwritten
            }


def recall_of(answered: AnsweredSearch) -> float | None:
    """Return the share of the k nearest images at the moment of the answer that are hits; None if there are none."""
    nearest = _nearest(answered)
    if not nearest:
        return None
    distances = np.array([[hit.distance for hit in answered.hits]])
    return float(recall_at_k(distances, np.array([nearest[-1].distance]), np.array([len(nearest)]))[0])


def _nearest(answered: AnsweredSearch) -> list[Hit]:
    """Return the hits of an exact scan; after each block, it rests."""
    query = answered.query[np.newaxis]
    step = max(1, _BLOCK // query.shape[1])
    best: list[Hit] = []
    for row_filter in answered.searched:
        rows = row_filter.rows()
        for start in range(0, len(rows), step):
            began = time.perf_counter()
            block = rows[start : start + step]
            images = row_filter.images_of(block)
            (hits,) = rank(row_filter.view, query, block, k=answered.k, metric=answered.metric, images=images)
            best = best_of_images([*best, *hits])[: answered.k]
            time.sleep((time.perf_counter() - began) * max(1.0, len(rows) / _LARGE))
    return with_score(best, answered.min_score)
