"""Compares what Redis holds of an index with rows of the object store: state, claims and buckets.

Redis may lose a part of what it held, such as the end of a damaged append-only file. Then searches by the index find
little, and say nothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.index.generations import Generation
from shared.state import IndexState, State
from shared.storage import layout
from shared.storage.catalog import Catalog, EmbeddingSet


@dataclass(frozen=True, eq=False)
class IndexedRows:
    """Live rows of an embedding set: their segments, ids int64 [n], and embeddings float32 [n, dim]."""

    segments: list[str]
    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lost:
    """Which of some rows Redis lacks: those that no segment claims, and those that are not in all of their buckets.

    Both are places among the rows, int64 [m].
    """

    claims: npt.NDArray[np.int64]
    buckets: npt.NDArray[np.int64]

    def __bool__(self) -> bool:
        return bool(len(self.claims) or len(self.buckets))


class IndexCheck:
    """Checks indexes. A row that is deleted meanwhile is not missed: its tombstone is written first."""

    def __init__(self, catalog: Catalog, state: State) -> None:
        self._catalog, self._state = catalog, state

    def state_fault(self, embedding_set: EmbeddingSet, generation: Generation | None) -> str | None:
        """Return what is wrong with the state of an index, given the generation in use by the store; None: nothing."""
        state = self._state.index_states.get(embedding_set.name)
        if state is None:
            return "the state of its index is lost"
        if generation is not None and not _knows(state, generation.number):
            return f"its index state knows generation {state.active}, the object store {generation.number}"
        return None

    def lost(self, embedding_set: EmbeddingSet, generation: Generation | None, rows: IndexedRows) -> Lost:
        """Return which of some live rows Redis lacks."""
        nothing = np.empty(0, np.int64)
        if not len(rows.ids):
            return Lost(nothing, nothing)
        holders = self._state.claims.holders(embedding_set.name, rows.ids.tolist())
        unclaimed = np.flatnonzero([holder is None for holder in holders])
        unfound = nothing if generation is None else self.incomplete(generation, rows)
        return Lost(self._alive(embedding_set, rows, unclaimed), self._alive(embedding_set, rows, unfound))

    def incomplete(self, generation: Generation, rows: IndexedRows) -> npt.NDArray[np.int64]:
        """Return which of some rows are not in all of their buckets: places among them, int64 [m]."""
        tables = generation.family.tables
        found = self._state.buckets.contain(generation.buckets(rows.vectors), np.repeat(rows.ids, tables).tolist())
        return np.flatnonzero(~np.array(found, dtype=np.bool_).reshape(-1, tables).all(axis=1))

    def _alive(
        self, embedding_set: EmbeddingSet, rows: IndexedRows, places: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return those of some rows that are still there: neither deleted nor merged away since they were read."""
        set_name, store = embedding_set.name, self._catalog.store
        names = {rows.segments[place] for place in places.tolist()}
        deleted = {segment: self._catalog.tombstones_of(set_name, segment) for segment in names}
        there = {segment for segment in names if store.exists(layout.segment_key(set_name, segment))}
        return np.array(
            [
                place
                for place in places.tolist()
                if rows.segments[place] in there and int(rows.ids[place]) not in deleted[rows.segments[place]]
            ],
            dtype=np.int64,
        )


def _knows(state: IndexState, generation: int) -> bool:
    """Return whether a generation is in use or about to be: the store is told of a new one before Redis."""
    return generation in state.generations
