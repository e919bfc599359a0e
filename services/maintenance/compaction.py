"""Compaction: merges a collection's small segments, and rewrites those with many dead rows, while all else goes on.

Of a collection's segments, those that are settled and that no task will ask for again are merged once sixteen of like
size have gathered, so that their number grows with the logarithm of the collection and a row is rewritten a few times.

A merge: note what is going to be merged (the intent); write the merged segment, which stands for its inputs wherever
both are listed; announce it; settle it, and hand it the claims of its inputs, holding the lock `claims:`, so that no
deletion goes by claims that change; delete the inputs; bury in the merged segment what was deleted from them
meanwhile, which counts for its rows all along; delete the intent. Each step may run twice, and whoever next finds the
intent goes on from there. All of it is done holding the lock `tend:`, which whatever reads or rewrites all segments of
a collection holds too.
"""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Collection as Container
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from shared.errors import Invalid, NotFound, ObjectNotFound, Unavailable
from shared.messaging.task_queue import Queue
from shared.state import Change, Changes, Jobs, Ledger
from shared.state.jobs import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, Collection
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)

FAN_IN = 16
_SMALLEST = 32  # rows: segments up to this size are of the lowest tier
_LARGEST = 64 * 2**20  # bytes of all inputs of a merge
_MOST = 256  # inputs of a merge
_FEW_DELETED = 32  # rows that are deleted before anybody looks
_ROUND_S = 20.0  # after which others that wait for the lock get their turn
_LOCK_S = 15.0
_WAIT_S = 60.0  # as long as a deletion may hold up a merge
_FETCHES = 4
_FILE_BYTES, _ENTRY_BYTES = 4096, 128  # of a segment without its rows, and of a row without its embedding, about

Part = tuple[str, pa.RecordBatch, set[int]]


class Compactor:
    """Merges segments. Its servers are passed in."""

    def __init__(self, *, store: ObjectStore, ledger: Ledger, jobs: Jobs, changes: Changes, queue: Queue) -> None:
        self._store, self._ledger, self._jobs, self._changes, self._queue = store, ledger, jobs, changes, queue
        self._catalog = Catalog(store)

    # When

    def segments_added(self, collection: str, count: int) -> None:
        """Have a collection compacted if so many segments were settled since it last was that it may pay."""
        if _passes(count - 1, count, FAN_IN):
            self._queue.compact(collection=collection)

    def rows_deleted(self, collection: Collection, count: int) -> None:
        """Count deleted rows, and have the collection compacted if there are many since it last was."""
        after = self._ledger.count_deleted(collection.space, count)
        if _passes(after - count, after, max(_FEW_DELETED, self._ledger.size(collection.space) // FAN_IN)):
            self._queue.compact(collection=collection.name)

    # What

    def compact(self, *, collection: str, job: str | None = None) -> None:
        """Merge what is worth it; with a job, all segments that are not full, and rewrite those with dead rows.

        The job reports how many rows were dropped.

        Raises:
            Unavailable: Others rewrite or read all of the collection's segments, or a server is away.
        """
        if job and self._jobs.reported(job, 0):
            return
        dropped, more, first = 0, True, True
        while more:
            try:
                manifest = self._catalog.get(collection)
            except NotFound:
                break
            if first:
                self._ledger.forget_gathered(manifest.space)
                first = False
            with self._ledger.holding(f"tend:{collection}", seconds=_LOCK_S, wait_s=1.0) as held:
                if not held:
                    raise Unavailable(f"another worker is at the segments of {collection!r}")
                self.recover(manifest.space)
                rows, more = self.merge_some(manifest, thorough=job is not None)
            dropped += rows
        if job:
            self._jobs.report(job, 0, Outcome(affected=dropped))

    def merge_some(self, collection: Collection, *, thorough: bool = False) -> tuple[int, bool]:
        """Merge for a while what is worth it; returns how many rows were dropped, and whether there is more to merge.

        The caller holds `tend:`, and merges that were left have been finished.
        """
        work = _Round(collection, self._catalog, self._ledger, self._jobs, thorough=thorough)
        until, dropped = time.monotonic() + _ROUND_S, 0
        while (group := work.next_group()) and time.monotonic() < until:
            dropped += self._merge(work, group)
        return dropped, bool(group)

    def _merge(self, work: "_Round", group: Sequence[str]) -> int:
        """Merge a group of segments; returns how many rows were dropped."""
        space = work.collection.space
        inputs: list[str] = []
        rows = 0

        def parts() -> Iterator[Part]:
            nonlocal rows
            for segment, batch, dead in self._read(work, group):
                inputs.append(segment)
                rows += len(batch)
                yield segment, batch, dead

        data = segments.merge(parts())
        if not inputs:
            return 0
        batch = None if data is None else segments.unpack(data)
        if batch is not None and len(inputs) == 1 and not (work.is_settled(inputs[0]) and len(batch) < rows):
            work.leave(inputs)
            return 0
        if data is None or batch is None:
            self._ledger.unsettle(space, inputs)
            self._catalog.remove_segments(space, inputs)
            work.replace(inputs, {})
            _log.info("%s: removed %d segments without live rows", space, len(inputs))
            return rows
        merged = layout.new_merged_segment()
        self._catalog.begin_merge(space, merged, inputs)
        self._store.put(layout.segment_key(space, merged), data)
        size = len(data)
        del data
        # Who was held up for so long that others went on has lost the race.
        if not self._store.exists(layout.merge_key(space, merged)):
            self._store.delete([layout.segment_key(space, merged)])
            raise Unavailable(f"another worker has withdrawn the merge {merged} of {space!r}")
        self._finish(space, merged, batch)
        work.replace(inputs, {merged: size})
        _log.info("%s: merged %d segments into %s of %d rows", space, len(inputs), merged, len(batch))
        return rows - len(batch)

    def _read(self, work: "_Round", group: Sequence[str]) -> Iterator[Part]:
        """Yield the segments of a group that are whole, with the ids of their dead rows; the others are named."""
        space = work.collection.space

        def fetch(segment: str) -> pa.RecordBatch | Exception:
            try:
                return segments.unpack(self._store.get(layout.segment_key(space, segment)), verify=True)
            except (ObjectNotFound, Invalid) as error:
                return error

        with ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch") as pool:
            for segment, found in zip(group, pool.map(fetch, group), strict=True):
                if isinstance(found, Exception):
                    _log.error("%s: the segment %s is left as it is: %s", space, segment, found)
                    work.leave([segment])
                else:
                    yield segment, found, work.dead[segment] | self._bury_taken(space, segment, found)

    def _bury_taken(self, space: str, segment: str, batch: pa.RecordBatch) -> set[int]:
        """Bury the rows of images that another segment holds by the ledger; returns their ids."""
        ids = segments.ids_of(batch).tolist()
        holders = self._ledger.holders(space, ids)
        others = {image: holder for image, holder in zip(ids, holders, strict=True) if holder not in {None, segment}}
        return self._bury_held(space, segment, others)

    def _bury_held(self, space: str, segment: str, holders: Mapping[int, str | None]) -> set[int]:
        """Bury the rows of images whose claims are with other segments, if those are there to stay."""
        names = sorted({holder for holder in holders.values() if holder})
        settled = {holder for holder, flag in zip(names, self._ledger.settled(space, names), strict=True) if flag}
        taken = {image for image, holder in holders.items() if holder in settled}
        self._catalog.bury(space, ((segment, image) for image in sorted(taken)))
        return taken

    def _finish(self, space: str, merged: str, batch: pa.RecordBatch) -> None:
        """Put a merged segment, which is written, into the place of its inputs."""
        inputs, origins = segments.inputs_of(batch), segments.origins_of(batch)
        ids = segments.ids_of(batch).tolist()
        origin_names = [inputs[origin] for origin in (() if origins is None else origins.tolist())]
        origin_of = dict(zip(ids, origin_names, strict=True))
        self._changes.announce(Change(space, "merged", merged))
        with self._ledger.holding(f"claims:{layout.collection_of(space)}", seconds=_LOCK_S, wait_s=_WAIT_S) as held:
            if not held:
                raise Unavailable(f"a deletion from {space!r} goes on")
            self._ledger.settle(space, merged)
            others = self._ledger.move(space, merged, ids, origin_names)
            self._bury_held(space, merged, dict(zip(others, self._ledger.holders(space, others), strict=True)))
        self._ledger.unsettle(space, inputs)
        self._store.delete([layout.segment_key(space, segment) for segment in inputs])
        # Nobody claims by an input any more, so no more marks come.
        with ThreadPoolExecutor(_FETCHES, thread_name_prefix="list") as pool:
            found = pool.map(lambda segment: self._catalog.dead_ids(space, segment), inputs)
            marks = [(segment, image) for segment, dead in zip(inputs, found, strict=True) for image in dead]
        self._catalog.bury(space, ((merged, image) for segment, image in marks if origin_of.get(image) == segment))
        self._catalog.remove_marks(space, marks)
        self._catalog.end_merge(space, merged)

    def recover(self, space: str) -> None:
        """Finish the merges that somebody left, or withdraw those that had not got far; the caller holds `tend:`."""
        for merged in self._catalog.merges(space):
            try:
                batch = segments.unpack(self._store.get(layout.segment_key(space, merged)), verify=True)
            except ObjectNotFound:
                self._catalog.end_merge(space, merged)
            except Invalid as error:
                _log.error("%s: the merge %s cannot be finished: %s", space, merged, error)
            else:
                self._finish(space, merged, batch)


class _Round:
    """What is to be merged: the segments of a collection as they are listed, and what becomes of them."""

    def __init__(self, collection: Collection, catalog: Catalog, ledger: Ledger, jobs: Jobs, *, thorough: bool) -> None:
        self.collection = collection
        self.dead: defaultdict[str, set[int]] = defaultdict(set)
        space = collection.space
        settled = ledger.all_settled(space)
        for segment, image in catalog.dead_rows(space):
            self.dead[segment].add(image)
        sizes = catalog.segment_sizes(space)
        for segment in sorted(settled - sizes.keys()):
            _log.error("%s: the segment %s is missing from the object store", space, segment)
        busy = in_flight(jobs, sizes) | {segment for inputs in catalog.merges(space).values() for segment in inputs}
        self._sizes = {segment: size for segment, size in sizes.items() if segment not in busy}
        self._mergeable = settled & self._sizes.keys()
        self._thorough = thorough
        self._row_bytes = 4 * collection.dim

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
        return next(([segment] for segment in sorted(self._sizes) if self._has_many_dead_rows(segment)), None)

    def _first(self, names: Iterable[str]) -> list[str]:
        group: list[str] = []
        size = 0
        for segment in sorted(names, key=lambda segment: (self._sizes[segment], segment))[:_MOST]:
            size += self._sizes[segment]
            if size > _LARGEST:
                break
            group.append(segment)
        return sorted(group)  # about the order in which they were written

    def _has_many_dead_rows(self, segment: str) -> bool:
        """Return whether more than a quarter of a segment's rows are dead, by its size; more than none if thorough."""
        dead = len(self.dead.get(segment, ()))
        rows = max(1, (self._sizes[segment] - _FILE_BYTES) // (self._row_bytes + _ENTRY_BYTES))
        return dead > 0 and (self._thorough or dead > rows // 4)

    def is_settled(self, segment: str) -> bool:
        """Return whether a segment is written and indexed; another one can be removed when all of it is dead."""
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


def in_flight(jobs: Jobs, names: Iterable[str]) -> set[str]:
    """Return the segments whose batch is not reported yet: their task may be given to another worker."""
    batches: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for segment in names:
        if (batch := layout.batch_of(segment)) is not None:
            batches[batch[0]][batch[1]] = segment
    found = set()
    for job, numbers in batches.items():
        reported = jobs.progress(job)
        if reported is not None:
            found |= {segment for number, segment in numbers.items() if number not in reported}
    return found


def _passes(before: int, after: int, least: int) -> bool:
    """Return whether a count has just passed `least` times a power of two; what was sent at the last may be lost."""
    return after >= least and (before < least or (after // least).bit_length() > (before // least).bit_length())
