"""When the segments of a collection are due to be compacted: counts what happens, and asks for a compaction."""

from shared.messaging.task_queue import TaskQueue
from shared.state import State
from shared.storage.catalog import EmbeddingSet

FAN_IN = 16
"""Segments of like size that are merged into one."""

_FEW_DELETED = 32  # rows that are deleted before a compaction is asked for


class CompactionTrigger:
    """Asks for a compaction once it may pay."""

    def __init__(self, state: State, queue: TaskQueue) -> None:
        self._state, self._queue = state, queue

    def segment_added(self, embedding_set: EmbeddingSet) -> None:
        """Count an indexed segment, and ask for a compaction if there are many since the last."""
        self.segment_counted(embedding_set, self._state.since_compaction.add_segment(embedding_set.name))

    def segment_counted(self, embedding_set: EmbeddingSet, count: int) -> None:
        """Ask for a compaction if an indexed segment is the last of many since the last compaction."""
        if _passes(count - 1, count, FAN_IN):
            self._queue.compact(collection=embedding_set.collection)

    def rows_deleted(self, embedding_set: EmbeddingSet, count: int) -> None:
        """Count deleted rows, and ask for a compaction if there are many since the last."""
        after = self._state.since_compaction.add_deleted(embedding_set.name, count)
        if _passes(after - count, after, max(_FEW_DELETED, self._state.claims.count(embedding_set.name) // FAN_IN)):
            self._queue.compact(collection=embedding_set.collection)


def _passes(before: int, after: int, least: int) -> bool:
    """Return whether a count has just passed `least` times a power of two: an earlier request may have been lost."""
    return after >= least and (before < least or (after // least).bit_length() > (before // least).bit_length())
