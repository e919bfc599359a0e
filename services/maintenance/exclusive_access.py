"""Exclusive access to all segments of a collection, after merges that a worker left unfinished are finished."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.maintenance.compaction import Compactor
from shared.state import State
from shared.state.locks import LEASE_S, segments_lock
from shared.storage.catalog import EmbeddingSet


class ExclusiveAccess:
    """Holds the lock on the segments of a collection."""

    def __init__(self, state: State, compactor: Compactor) -> None:
        self._locks, self._compactor = state.locks, compactor

    @contextmanager
    def hold(self, embedding_set: EmbeddingSet) -> Iterator[None]:
        """Hold the lock over the block.

        Raises:
            Locked: Another worker reads or rewrites all segments of the collection.
        """
        # The worker that holds the lock may have died, perhaps at this very task: then the lock is free soon.
        with self._locks.hold(segments_lock(embedding_set.collection), wait_s=LEASE_S + 1):
            self.recover(embedding_set)
            yield

    def recover(self, embedding_set: EmbeddingSet) -> None:
        """Finish the merges of an embedding set that were left, so that no row is there twice; within the lock."""
        self._compactor.recover(embedding_set.name)
