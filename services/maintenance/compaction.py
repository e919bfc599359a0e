"""Compaction: merges a collection's small segments, and rewrites those with many deleted rows, while all else goes on.

Segments that are indexed, and that no task will ask for again, are merged once sixteen of like size are there: their
number grows with the logarithm of the collection, and a row is rewritten a few times.

The steps of a merge:

1. Write the intent: which segments are going to be merged into which.
2. Write the merged segment, which stands for its inputs wherever both are listed.
3. Announce it, note it as indexed, hand it the claims of its inputs, and delete the inputs. This holds the lock on
   claims, so that no deletion goes by claims that change, or writes a tombstone for a segment that is gone.
4. Give the merged segment a tombstone for every row that was deleted from an input meanwhile.
5. Delete the intent.

Each step may run twice, and the next worker that finds the intent goes on from there. All of it holds the lock on the
collection's segments, as does every worker that reads or rewrites all of them.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from services.maintenance.merge_plan import MergePlan
from shared.clients import Clients
from shared.errors import Invalid, NotFound, ObjectNotFound, Unavailable
from shared.state import Change
from shared.state.locks import claims_lock, segments_lock
from shared.state.outcomes import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet

_log = logging.getLogger(__name__)

_ROUND_S = 20.0  # after which other workers that wait for the lock get their turn
_WAIT_S = 60.0  # as long as a deletion may hold up a merge
_FETCHES = 4

MergeInput = tuple[str, pa.RecordBatch, set[int]]
"""A segment's name, its rows, and the ids of its deleted rows."""


class Compactor:
    """Merges segments."""

    def __init__(self, clients: Clients) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog

    def compact(self, *, collection: str, job: str | None = None) -> None:
        """Merge what is worth it; with a job, all segments that are not full, and rewrite those with deleted rows.

        The job reports how many rows were dropped.

        Raises:
            Unavailable: Another worker reads or rewrites all of the collection's segments, or a server is away.
        """
        if job and self._state.jobs.reported(job, 0):
            return
        dropped, more, first = 0, True, True
        while more:
            try:
                active = self._catalog.get(collection)
            except NotFound:
                break
            if first:
                self._state.since_compaction.reset(active.name)
                first = False
            with self._state.locks.hold(segments_lock(collection), wait_s=1.0):
                self.recover(active.name)
                rows, more = self.merge_some(active, thorough=job is not None)
            dropped += rows
        if job:
            self._state.jobs.report(job, 0, Outcome(affected=dropped))

    def merge_some(self, embedding_set: EmbeddingSet, *, thorough: bool = False) -> tuple[int, bool]:
        """Merge for a while what is worth it; returns how many rows were dropped, and whether there is more to merge.

        The caller holds the lock on the segments, and has finished the merges that were left.
        """
        plan = MergePlan(embedding_set, self._catalog, self._state, thorough=thorough)
        until, dropped = time.monotonic() + _ROUND_S, 0
        while (group := plan.next_group()) and time.monotonic() < until:
            dropped += self._merge(plan, group)
        return dropped, bool(group)

    def rewrite(self, embedding_set: EmbeddingSet, names: Sequence[str]) -> None:
        """Rewrite segments without their deleted rows now, one by one; one that is not indexed stays as it is.

        The caller holds the lock on the segments, and has finished the merges that were left.

        Raises:
            Unavailable: The batch of a segment is not reported yet.
        """
        plan = MergePlan(embedding_set, self._catalog, self._state, thorough=True)
        for segment in names:
            if plan.is_busy(segment):
                raise Unavailable(f"{embedding_set.name}: the batch of the segment {segment} is not reported yet")
            if plan.deleted.get(segment):
                self._merge(plan, [segment])

    def _merge(self, plan: MergePlan, group: Sequence[str]) -> int:
        """Merge a group of segments; returns how many rows were dropped."""
        set_name = plan.embedding_set.name
        inputs: list[str] = []
        rows = 0

        def merge_inputs() -> Iterator[MergeInput]:
            nonlocal rows
            for segment, batch, deleted in self._read(plan, group):
                inputs.append(segment)
                rows += len(batch)
                yield segment, batch, deleted

        data = segments.merge(merge_inputs())
        if not inputs:
            return 0
        batch = None if data is None else segments.unpack(data)
        if batch is not None and len(inputs) == 1 and not (plan.is_indexed(inputs[0]) and len(batch) < rows):
            plan.leave(inputs)
            return 0
        self._check(set_name)
        if data is None or batch is None:
            with self._state.locks.hold(claims_lock(layout.collection_of(set_name)), wait_s=_WAIT_S):
                self._check(set_name)
                self._state.indexed_segments.remove(set_name, inputs)
                self._catalog.remove_segments(set_name, inputs)
            plan.replace(inputs, {})
            _log.info("%s: removed %d segments without live rows", set_name, len(inputs))
            return rows
        merged = layout.new_merged_segment()
        self._catalog.begin_merge(set_name, merged, inputs)
        self._store.put(layout.segment_key(set_name, merged), data)
        size = len(data)
        del data
        # A worker that was held up for so long that another one went on has lost the race.
        if not self._store.exists(layout.merge_key(set_name, merged)):
            self._store.delete([layout.segment_key(set_name, merged)])
            raise Unavailable(f"another worker has withdrawn the merge {merged} of {set_name!r}")
        self._finish(set_name, merged, batch)
        plan.replace(inputs, {merged: size})
        _log.info("%s: merged %d segments into %s of %d rows", set_name, len(inputs), merged, len(batch))
        return rows - len(batch)

    def _read(self, plan: MergePlan, group: Sequence[str]) -> Iterator[MergeInput]:
        """Yield the segments of a group that are whole, with the ids of their deleted rows; the others are logged."""
        set_name = plan.embedding_set.name

        def fetch(segment: str) -> pa.RecordBatch | Exception:
            try:
                return segments.unpack(self._store.get(layout.segment_key(set_name, segment)), verify=True)
            except (ObjectNotFound, Invalid) as error:
                return error

        with ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch") as pool:
            for segment, found in zip(group, pool.map(fetch, group), strict=True):
                if isinstance(found, Exception):
                    _log.error("%s: the segment %s is left as it is: %s", set_name, segment, found)
                    plan.leave([segment])
                else:
                    yield segment, found, plan.deleted[segment] | self._delete_taken(set_name, segment, found)

    def _delete_taken(self, set_name: str, segment: str, batch: pa.RecordBatch) -> set[int]:
        """Delete the rows of images that another segment has claimed; returns their ids."""
        ids = segments.ids_of(batch).tolist()
        holders = self._state.claims.holders(set_name, ids)
        others = {
            image_id: holder for image_id, holder in zip(ids, holders, strict=True) if holder not in {None, segment}
        }
        return self._delete_held(set_name, segment, others)

    def _delete_held(self, set_name: str, segment: str, holders: Mapping[int, str | None]) -> set[int]:
        """Delete the rows of images that other, indexed segments have claimed; returns their ids.

        A claim of a Redis that has lost its last changes may name a segment that is gone, or a row that is deleted.
        """
        names = sorted({holder for holder in holders.values() if holder})
        indexed = self._state.indexed_segments.among(set_name, names)
        deleted = {
            name: self._catalog.tombstones_of(set_name, name)
            for name in indexed
            if self._store.exists(layout.segment_key(set_name, name))
        }
        taken = {
            image_id for image_id, holder in holders.items() if holder in deleted and image_id not in deleted[holder]
        }
        self._catalog.add_tombstones(set_name, ((segment, image_id) for image_id in sorted(taken)))
        return taken

    def _finish(self, set_name: str, merged: str, batch: pa.RecordBatch) -> None:
        """Replace the inputs of a merge by the merged segment, which is written."""
        inputs, origins = segments.inputs_of(batch), segments.origins_of(batch)
        ids = segments.ids_of(batch).tolist()
        origin_names = [inputs[origin] for origin in (() if origins is None else origins.tolist())]
        origin_of = dict(zip(ids, origin_names, strict=True))
        self._check(set_name)
        self._state.changes.announce(Change(set_name, "merged", merged))
        with self._state.locks.hold(claims_lock(layout.collection_of(set_name)), wait_s=_WAIT_S):
            self._check(set_name)
            self._state.indexed_segments.add(set_name, merged)
            others = self._state.claims.hand_over(set_name, merged, ids, origin_names)
            self._delete_held(
                set_name, merged, dict(zip(others, self._state.claims.holders(set_name, others), strict=True))
            )
            self._check(set_name)
            self._state.indexed_segments.remove(set_name, inputs)
            self._store.delete([layout.segment_key(set_name, segment) for segment in inputs])
        # Neither a claim nor a listing names an input any more, so no more tombstones come.
        with ThreadPoolExecutor(_FETCHES, thread_name_prefix="list") as pool:
            found = pool.map(lambda segment: self._catalog.tombstones_of(set_name, segment), inputs)
            tombstones = [
                (segment, image_id) for segment, deleted in zip(inputs, found, strict=True) for image_id in deleted
            ]
        self._catalog.add_tombstones(
            set_name, ((merged, image_id) for segment, image_id in tombstones if origin_of.get(image_id) == segment)
        )
        self._check(set_name)
        self._catalog.remove_tombstones(set_name, tombstones)
        self._catalog.end_merge(set_name, merged)

    def _check(self, set_name: str) -> None:
        """Make sure that the caller has not lost its lock on the segments."""
        self._state.locks.check(segments_lock(layout.collection_of(set_name)))

    def recover(self, set_name: str) -> None:
        """Finish the merges that a worker left, or withdraw those of which nothing is written.

        The caller holds the lock on the segments.
        """
        for merged in self._catalog.merges(set_name):
            try:
                batch = segments.unpack(self._store.get(layout.segment_key(set_name, merged)), verify=True)
            except ObjectNotFound:
                self._check(set_name)
                self._catalog.end_merge(set_name, merged)
            except Invalid as error:
                _log.error("%s: the merge %s cannot be finished: %s", set_name, merged, error)
            else:
                self._finish(set_name, merged, batch)
