"""The plan of a round of compaction: which segments are merged next."""

import logging
import math
from collections import defaultdict
from collections.abc import Collection as Container
from collections.abc import Iterable, Mapping

from shared.index.compaction_due import FAN_IN
from shared.index.unreported_segments import unreported_segments
from shared.state import State
from shared.storage.catalog import Catalog, EmbeddingSet

_log = logging.getLogger(__name__)

_SMALLEST = 32  # rows: segments up to this size are of the lowest tier
_LARGEST = 64 * 2**20  # bytes of all inputs of a merge
_MOST = 256  # inputs of a merge
_FILE_BYTES, _ENTRY_BYTES = 4096, 128  # of a segment without its rows, and of a row without its embedding, about


class MergePlan:
    """The segments of an embedding set as they are listed, and what becomes of them in this round."""

    def __init__(self, embedding_set: EmbeddingSet, catalog: Catalog, state: State, *, thorough: bool) -> None:
        self.embedding_set = embedding_set
        set_name = embedding_set.name
        indexed = state.indexed_segments.all(set_name)
        self.deleted = catalog.tombstones_by_segment(set_name)
        sizes = catalog.segment_sizes(set_name)
        for segment in sorted(indexed - sizes.keys()):
            _log.error("%s: the segment %s is missing from the object store", set_name, segment)
        busy = unreported_segments(state.jobs, sizes) | {
            segment for inputs in catalog.merges(set_name).values() for segment in inputs
        }
        self._busy = frozenset(busy)
        self._sizes = {segment: size for segment, size in sizes.items() if segment not in busy}
        self._mergeable = indexed & self._sizes.keys()
        self._thorough = thorough
        self._row_bytes = 4 * embedding_set.dim

    def next_group(self) -> list[str] | None:
        """Return the names of segments to be merged next, None if nothing is worth it."""
        tiers: defaultdict[int, list[str]] = defaultdict(list)
        for segment in sorted(self._mergeable):
            size = self._sizes[segment]
            if size <= _LARGEST // 2:
                tier = int(math.log(max(1.0, size / (_SMALLEST * self._row_bytes)), FAN_IN))
                tiers[0 if self._thorough else tier].append(segment)
        for _, tier_of in sorted(tiers.items()):
            if len(tier_of) >= (2 if self._thorough else FAN_IN):
                group = self._first(tier_of)
                if len(group) > 1:
                    return group
        return next(([segment] for segment in sorted(self._sizes) if self._has_many_deleted_rows(segment)), None)

    def _first(self, names: Iterable[str]) -> list[str]:
        group: list[str] = []
        size = 0
        for segment in sorted(names, key=lambda segment: (self._sizes[segment], segment))[:_MOST]:
            size += self._sizes[segment]
            if size > _LARGEST:
                break
            group.append(segment)
        return sorted(group)  # about the order in which they were written

    def _has_many_deleted_rows(self, segment: str) -> bool:
        """Return whether more than a quarter of a segment's rows are deleted; if thorough, whether any is."""
        deleted = len(self.deleted.get(segment, ()))
        rows = max(1, (self._sizes[segment] - _FILE_BYTES) // (self._row_bytes + _ENTRY_BYTES))
        return deleted > 0 and (self._thorough or deleted > rows // 4)

    def is_busy(self, segment: str) -> bool:
        """Return whether a task may ask for a segment again, or a merge of it is under way."""
        return segment in self._busy

    def is_indexed(self, segment: str) -> bool:
        """Return whether a segment is indexed; another segment can be removed when all its rows are deleted."""
        return segment in self._mergeable

    def leave(self, names: Container[str]) -> None:
        """Leave segments as they are in this round."""
        self._mergeable.difference_update(names)
        for segment in names:
            self._sizes.pop(segment, None)

    def replace(self, inputs: Container[str], merged: Mapping[str, int]) -> None:
        """Note that segments were replaced by others, given with their sizes."""
        self.leave(inputs)
        self._sizes.update(merged)
        self._mergeable.update(merged)
