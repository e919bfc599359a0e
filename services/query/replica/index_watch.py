"""Watches the indexes of replicas: samples of their rows are looked up in Redis, which may have lost a part of it.

An index that lacks something is not asked until the maintenance worker has rebuilt it: searches scan exactly instead.
"""

import logging
from collections.abc import Mapping
from threading import Event

import numpy as np

from services.query.replica.id_index import distinct
from services.query.replica.mapped_segment import Rows
from services.query.replica.replica import Replica
from services.query.replica.view import View
from shared.errors import Invalid
from shared.index.consistency import IndexCheck, IndexedRows
from shared.state import State
from shared.storage.catalog import Catalog

_log = logging.getLogger(__name__)

_SAMPLE = 64  # rows
_DRAWN = 256  # of which so many are live, unless most rows are not

CHECKING = "the index is being checked, since Redis was away or has lost what it announced"


class IndexWatch:
    """Checks the indexes of replicas; `unchecked` are the collections whose index is to be checked."""

    def __init__(self, catalog: Catalog, state: State) -> None:
        self._check, self._suspects = IndexCheck(catalog, state), state.suspects
        self._random = np.random.default_rng()
        self.unchecked: set[str] = set()

    def distrust(self, replicas: Mapping[str, Replica]) -> None:
        """Have no index asked before it is checked; the replicas are given by their collections."""
        for name, replica in replicas.items():
            replica.index_fault = replica.index_fault or CHECKING
            self.unchecked.add(name)

    def check_due(self, replicas: Mapping[str, Replica], stop: Event) -> None:
        """Check the indexes that are to be checked, until `stop`.

        Raises:
            Unavailable: Redis or the object store does not answer.
        """
        for name in list(self.unchecked):
            if stop.is_set():
                return
            if (replica := replicas.get(name)) is not None:
                self.check(replica)
            self.unchecked.discard(name)

    def check(self, replica: Replica) -> None:
        """Check the index of a replica by a sample of its rows; what is wrong is in `replica.index_fault` after.

        Raises:
            Unavailable: Redis or the object store does not answer.
        """
        fault = self._fault(replica)
        if fault is not None and fault != replica.index_fault:
            _log.error("%s: the index is not asked until it is rebuilt: %s", replica.embedding_set.collection, fault)
        if fault is None and replica.index_fault not in {None, CHECKING}:
            _log.info("%s: the index is whole again", replica.embedding_set.collection)
        if fault is not None:
            self._suspects.add(replica.embedding_set.name, fault)
        replica.index_fault = fault

    def _fault(self, replica: Replica) -> str | None:
        embedding_set, generation = replica.embedding_set, replica.generation
        rows = self._sample(replica)
        if not len(rows.ids):
            return None
        fault = self._check.state_fault(embedding_set, generation)
        if fault is None:
            try:
                lost = self._check.lost(embedding_set, generation, rows)
            except Invalid as error:
                return str(error)
            if lost:
                fault = (
                    f"of {len(rows.ids)} images, Redis lacks the claims of {len(lost.claims)}, and buckets of "
                    f"{len(lost.buckets)}"
                )
        return fault

    def _sample(self, replica: Replica) -> IndexedRows:
        view = replica.view
        chosen = self._live_rows(view)
        segments: list[str] = []
        vectors = np.empty((len(chosen), replica.embedding_set.dim), dtype=np.float32)
        for segment, part, rows in view.parts(chosen):
            segments += [segment.name] * len(rows)
            vectors[part] = segment.vectors[rows]
        return IndexedRows(segments, view.ids[chosen], vectors)

    def _live_rows(self, view: View) -> Rows:
        """Return live rows drawn at random, ascending: all are listed only where few are live."""
        drawn = distinct(self._random.integers(max(1, len(view.live)), size=_DRAWN))
        live = drawn[view.live[drawn]] if len(view.live) else drawn[:0]
        if len(live) < _SAMPLE:
            live = np.flatnonzero(view.live)
        return np.sort(self._random.choice(live, min(_SAMPLE, len(live)), replace=False))
