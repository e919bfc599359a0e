"""Live recall: a share of the index's answers is held against an exact scan in the background.

It never holds up a search: what is to be checked waits in a short queue, and is dropped and counted where that is full;
one thread of low priority works it off, and rests as long as it works.
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
from services.query.search.ranking import Ranked, rank
from shared.errors import Unavailable
from shared.evaluation.retrieval_metrics import recall_at_k
from shared.rpc.query import Metric
from shared.state.recall_log import HourOfRecall, RecallLog, hour_of

_log = logging.getLogger(__name__)

_ROOM = 16  # answers that wait: each holds its view of the collection, of which one byte a row may be its own
_BLOCK = 2**20  # numbers compared at a time: so few that no thread of the searches is asked to help
_LOWEST = 19  # as `nice` counts


@dataclass(frozen=True)
class AnsweredSearch:
    """A search that the index answered.

    Attributes:
        query: float32 [dim].
        gate: What might be found, at the moment of the answer.
        hits: What was found, at most k.
    """

    collection: str
    query: Vectors
    row_filter: RowFilter
    k: int
    metric: Metric
    min_score: float | None
    hits: Sequence[Ranked]


class LiveRecall:
    """Checks a share of the answers that it is offered, 0 to 1; `log` keeps what was found."""

    def __init__(self, share: float, *, log: RecallLog, metrics: Metrics) -> None:
        self._share = share
        self._log, self._metrics = log, metrics
        self._waiting: queue.Queue[AnsweredSearch] = queue.Queue(_ROOM)
        self._lock = threading.Lock()
        self._hours: dict[tuple[str, int], HourOfRecall] = {}  # of this hour, and what could not be written yet
        self._unwritten: set[tuple[str, int]] = set()
        self._thread = threading.Thread(target=self._run, name="recall", daemon=True)

    def start(self) -> None:
        """Begin to check, on a thread of its own."""
        self._thread.start()

    def offer(self, answered: AnsweredSearch) -> None:
        """Check an answer later, if it is drawn for the sample; never waits, never fails."""
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
            answered = self._waiting.get()
            try:
                recall = recall_of(answered)
            except Exception:
                _log.exception("an answer of %s could not be checked", answered.collection)
                continue
            if recall is not None:
                self._metrics.recall(answered.collection, recall)
                self._count(answered.collection, sampled=1, total=recall)
                self._write()

    def _count(self, collection: str, *, sampled: int = 0, total: float = 0.0, dropped: int = 0) -> None:
        place = collection, hour_of(time.time())
        with self._lock:
            was = self._hours.get(place, HourOfRecall(place[1]))
            self._hours[place] = replace(
                was, sampled=was.sampled + sampled, total=was.total + total, dropped=was.dropped + dropped
            )
            self._unwritten.add(place)

    def _write(self) -> None:
        """Write what has changed; without the index, it waits for the next time."""
        now = hour_of(time.time())
        with self._lock:
            changed = {place: self._hours[place] for place in self._unwritten}
            self._unwritten.clear()
        for place, hour in changed.items():
            try:
                self._log.write(place[0], hour)
            except Unavailable as error:
                _log.debug("recall is written later: %s", error)
                with self._lock:
                    self._unwritten.add(place)
        with self._lock:  # an hour that is over and written does not change any more
            self._hours = {
                place: hour for place, hour in self._hours.items() if place[1] >= now or place in self._unwritten
            }


def recall_of(answered: AnsweredSearch) -> float | None:
    """Return the share of the k nearest at the moment of the answer that were found; None if there is none."""
    nearest = _nearest(answered)
    if not nearest:
        return None
    found = np.array([[hit.distance for hit in answered.hits]])
    return float(recall_at_k(found, np.array([nearest[-1].distance]), np.array([len(nearest)]))[0])


def _nearest(answered: AnsweredSearch) -> list[Ranked]:
    """Return what an exact scan finds, block by block, with a rest after each that is as long as the work."""
    row_filter, query = answered.row_filter, answered.query[np.newaxis]
    rows = row_filter.rows()
    step = max(1, _BLOCK // query.shape[1])
    best: list[Ranked] = []
    for start in range(0, len(rows), step):
        began = time.perf_counter()
        (block,) = rank(row_filter.view, query, rows[start : start + step], k=answered.k, metric=answered.metric)
        best = sorted([*best, *block], key=lambda hit: hit.distance)[: answered.k]
        time.sleep(time.perf_counter() - began)
    least = answered.min_score
    return best if least is None else [hit for hit in best if hit.score >= least]
