"""Puts the images of a new segment into the buckets of the index, and reports the batch.

Every method may run twice or die anywhere. The order of writes sees to it: tombstones, then buckets, indexed segments,
the announcement, the report. The embedder has claimed the images before.
"""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from services.indexer.active_sets import ActiveSets, SetSuperseded
from shared.errors import Closed, Invalid, NotFound, ObjectNotFound
from shared.index.batch_images import batch_image
from shared.index.compaction_due import CompactionTrigger
from shared.index.generations import GenerationCache
from shared.index.segment_reader import float32, unpacked
from shared.index.tuning_due import is_tuning_due
from shared.messaging.task_queue import INDEX_SEGMENT
from shared.messaging.worker import WorkerClients
from shared.state import IndexState, Rejection
from shared.state.locks import claims_lock
from shared.state.outcomes import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet
from shared.storage.renames import Rename
from shared.windows import is_long

_WAIT_S = 5.0  # for a deletion or a merge, while other tasks wait behind this one
_TUNING_ASKED_S = 30.0  # between two requests to tune a collection that goes on growing
_TUNING_LOOKED_S = 1.0  # between two looks whether a collection that goes on growing is to be tuned
_REGIONS_ASKED_S = 60.0  # between two requests to embed the windows of the images of a job: new images go first


class _Withdrawn(Exception):
    """A segment of windows was removed, since one of their images was deleted meanwhile."""


@dataclass(frozen=True)
class _Added:
    """What came of a segment: the labels of rows that another segment has, and segments since the last compaction."""

    taken: list[str | None]
    since_compaction: int


class SegmentIndexer:
    """Indexes segments. Collections of fewer than `exact_below` images are scanned exactly by default."""

    def __init__(
        self, clients: WorkerClients, generations: GenerationCache, active_sets: ActiveSets, *, exact_below: int
    ) -> None:
        self._store, self._catalog, self._state = clients.store, clients.catalog, clients.state
        self._queue, self._exact_below = clients.queue, exact_below
        self._generations, self._active_sets = generations, active_sets
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="fetch")  # while Redis is asked
        self._compaction = CompactionTrigger(clients.state, clients.queue)
        self._tuning_looked: dict[str, float] = {}  # the last collection, and when it was

    def index(self, *, set_name: str, segment: str, job: str, batch: int, outcome: Outcome) -> None:
        """Put the images of a segment into their buckets, note that the segment is indexed, and report its batch.

        A segment of an embedding set that its collection has left is embedded again for the set in use, or handed over
        to the same set under the collection's new name.
        """
        fetched = self._ahead.submit(self._store.get, layout.segment_key(set_name, segment))
        try:
            embedding_set, state = self._active_sets.resolve(set_name)
        except (NotFound, SetSuperseded) as gone:
            self._pass_on(gone, set_name, segment, job, batch, outcome)
            return
        try:
            rows = unpacked(embedding_set, fetched.result())
        except (ObjectNotFound, Invalid) as error:
            if not self._state.jobs.reported(job, batch):
                if isinstance(error, Invalid):
                    raise
                self._report_dropped(job, batch, set_name, outcome)
                return
            rows = None
        try:
            added = None if rows is None else self._add(embedding_set, state, segment, rows, job, batch)
        except Closed:
            self._active_sets.reopen_if_abandoned(embedding_set)
            raise
        except _Withdrawn:
            self._state.jobs.report(job, batch, Outcome())
            return
        if added is None:
            self._remove_if_merged(set_name, segment)
        job_done = self._state.jobs.report(job, batch, outcome if added is None else _without(outcome, added.taken))
        if self._active_sets.active(embedding_set.collection).name != set_name:
            return  # the worker that fills the embedding set also tunes and compacts it
        if added is not None:
            self._compaction.segment_counted(embedding_set, added.since_compaction)
        self._ask_for_tuning(embedding_set, state, job_done=job_done)
        self._ask_for_regions(embedding_set.collection, None if added is None else rows, job_done=job_done)

    def _pass_on(
        self, gone: NotFound | SetSuperseded, set_name: str, segment: str, job: str, batch: int, outcome: Outcome
    ) -> None:
        """See to a segment of an embedding set that its collection has left, or that is gone with its collection."""
        if (rename := self._catalog.rename_of(set_name)) is not None:
            self._hand_over(rename, set_name, segment, job, batch, outcome)
        elif layout.is_regions(set_name):  # what is missing is embedded for the set in use in any case
            self._report_dropped(job, batch, set_name, outcome)
            self._catalog.remove_segments(set_name, [segment])
            self._active_sets.forget_if_gone(set_name)
        elif isinstance(gone, SetSuperseded):
            self._embed_again(gone.active, set_name, segment, job, batch, outcome)
        else:
            self._report_dropped(job, batch, set_name, outcome)

    def _ask_for_tuning(self, embedding_set: EmbeddingSet, state: IndexState, *, job_done: bool) -> None:
        collection = embedding_set.collection
        now = time.monotonic()
        if not job_done and now - self._tuning_looked.get(collection, 0.0) < _TUNING_LOOKED_S:
            return
        self._tuning_looked = {collection: now}
        size = self._state.claims.count(embedding_set.name)
        if is_tuning_due(state, size, exact_below=self._exact_below, more_to_come=not job_done) and (
            job_done or self._state.locks.once(f"maintain:{collection}", seconds=_TUNING_ASKED_S)
        ):
            self._queue.maintain(collection=collection)

    def _ask_for_regions(self, collection: str, rows: pa.RecordBatch | None, *, job_done: bool) -> None:
        """Have the new images' windows embedded: where the collection's regions are indexed, or an image is long."""
        if layout.is_regions(collection):
            return
        if not (rows is not None and _has_long(rows)) and not self._active_sets.has_regions(collection, fresh=job_done):
            return
        if job_done or self._state.locks.once(f"regions:{collection}", seconds=_REGIONS_ASKED_S):
            self._queue.make_regions(collection=collection)

    def _withdraw(self, regions: EmbeddingSet, state: IndexState, segment: str, rows: pa.RecordBatch) -> bool:
        """Remove a segment of windows if one of their images was deleted meanwhile; returns whether it was removed.

        No embedding of a deleted image may stay. The windows of the other images are embedded once more. What was
        indexed before is left: the deletion has found it.
        """
        if self._state.indexed_segments.contains(regions.name, segment):
            return False
        try:
            images = self._active_sets.active(layout.collection_with(regions.collection), fresh=True).name
        except NotFound:
            return False  # all of it is about to be dropped, or renamed
        digests = {digest.hex() for digest in rows.column("digest").to_pylist()}
        if None not in self._state.claims.holders(images, [layout.image_id(digest) for digest in sorted(digests)]):
            return False
        ids = segments.ids_of(rows)
        # A deletion that has found the segment may not write tombstones for it once it is gone.
        with self._state.locks.hold(claims_lock(regions.collection), wait_s=_WAIT_S):
            for number in state.generations:  # an attempt that died may have added some
                self._generations.get(regions, number).remove(self._state.buckets, ids, float32(rows))
            self._state.claims.release(regions.name, segment, ids.tolist())
            self._catalog.remove_segments(regions.name, [segment])
        return True

    def _embed_again(
        self, active: EmbeddingSet, set_name: str, segment: str, job: str, batch: int, outcome: Outcome
    ) -> None:
        """Embed the images of a segment for the set in use: it was not indexed before the collection left its set."""
        if not self._state.jobs.reported(job, batch):
            if self._state.indexed_segments.contains(set_name, segment):  # it was moved with the others
                self._state.jobs.report(job, batch, outcome)
                return
            try:
                rows = segments.unpack(self._store.get(layout.segment_key(set_name, segment)), verify=True)
            except ObjectNotFound:
                sent = self._state.jobs.sent.get(job, batch)
                if sent is not None and sent.task == INDEX_SEGMENT:  # else an earlier attempt has sent them
                    self._report_dropped(job, batch, set_name, outcome)
                return
            deleted = self._catalog.tombstones_of(set_name, segment)
            entries = (segments.entry_of(rows, row) for row in range(len(rows)))
            items = [batch_image(entry) for entry in entries if entry.id not in deleted]
            before = Outcome({}, outcome.duplicates, outcome.rejected)
            self._queue.embed(job=job, batch=batch, collection=active.collection, items=items, before=before)
        self._catalog.remove_segments(set_name, [segment])
        self._active_sets.forget_if_gone(set_name)

    def _hand_over(self, rename: Rename, set_name: str, segment: str, job: str, batch: int, outcome: Outcome) -> None:
        """Have a segment indexed under the new name of its collection: it was not indexed before the collection moved.

        Its embeddings are those of the model only in the embedding set that moved; else it is embedded again.
        """
        new_set, key = rename.new_set, layout.segment_key(set_name, segment)
        try:
            if set_name != rename.old_set:
                active = self._catalog.get(self._catalog.current_name(rename.new))
                self._embed_again(active, set_name, segment, job, batch, outcome)
                return
            new_key = layout.segment_key(new_set, segment)
            if not self._state.jobs.reported(job, batch):
                if self._store.exists(key) and not self._store.exists(new_key):
                    self._store.copy(key, new_key)
                ids = segments.ids_of(segments.unpack(self._store.get(new_key), verify=True)).tolist()
                deleted = self._catalog.tombstones_of(new_set, segment)
                self._state.claims.claim(new_set, segment, [image_id for image_id in ids if image_id not in deleted])
                self._queue.index(set_name=new_set, segment=segment, job=job, batch=batch, outcome=outcome)
        except NotFound:
            self._report_dropped(job, batch, set_name, outcome)
        self._catalog.remove_segments(set_name, [segment])
        self._state.claims.forget(set_name)

    def _add(
        self, embedding_set: EmbeddingSet, state: IndexState, segment: str, rows: pa.RecordBatch, job: str, batch: int
    ) -> "_Added | None":
        """Index a segment; returns what came of it, None if its batch is reported already.

        Raises:
            _Withdrawn: One of windows was removed.
        """
        ids, vectors = segments.ids_of(rows), float32(rows)
        holders, reported = self._state.indexing.look(embedding_set.name, ids.tolist(), job, batch)
        if reported:
            return None
        if layout.is_regions(embedding_set.name):
            if self._withdraw(embedding_set, state, segment, rows):
                raise _Withdrawn
            holders = self._state.claims.holders(embedding_set.name, ids.tolist())
        taken = [row for row, holder in enumerate(holders) if holder not in {None, segment}]
        self._catalog.add_tombstones(embedding_set.name, ((segment, image_id) for image_id in ids[taken].tolist()))
        held = np.array([holder == segment for holder in holders], dtype=np.bool_)
        for place, number in enumerate(state.generations):
            generation = self._generations.get(embedding_set, number)
            if taken or place:  # else it was looked for a moment ago
                self._state.indexing.check_unreported(job, batch)
            generation.add(self._state.buckets, ids[held], vectors[held])
        count = self._state.indexing.complete(embedding_set.name, segment, job, batch)
        return _Added([entry.label for entry in segments.entries_of(rows, taken)], count)

    def _report_dropped(self, job: str, batch: int, set_name: str, outcome: Outcome) -> None:
        """Report a segment that is gone: as long as its batch is not reported, only a drop removes it."""
        collection = layout.collection_of(set_name)
        reason = f"the collection {collection!r} was dropped, or changed to another model, while this was added"
        lost = tuple(Rejection("", "dropped", reason) for _ in range(sum(outcome.added.values())))
        self._state.jobs.report(job, batch, Outcome({}, outcome.duplicates, outcome.rejected + lost))

    def _remove_if_merged(self, set_name: str, segment: str) -> None:
        """Delete the segment of a reported batch if it was merged, and written once more by a worker that hung."""
        if self._state.indexed_segments.contains(set_name, segment):
            return
        try:
            rows = segments.unpack(self._store.get(layout.segment_key(set_name, segment)))
        except ObjectNotFound:
            return
        # A deletion that has found the segment may not write tombstones for it once it is gone.
        with self._state.locks.hold(claims_lock(layout.collection_of(set_name)), wait_s=_WAIT_S):
            holders = set(self._state.claims.holders(set_name, segments.ids_of(rows).tolist()))
            if segment not in holders and holders - {None}:
                self._catalog.remove_segments(set_name, [segment])


def _without(outcome: Outcome, labels: Sequence[str | None]) -> Outcome:
    """Return an outcome in which images with these labels are duplicates instead of added."""
    added = Counter(outcome.added) - Counter(label or "" for label in labels)
    return Outcome(dict(added), outcome.duplicates + len(labels), outcome.rejected, damaged=outcome.damaged)


def _has_long(rows: pa.RecordBatch) -> bool:
    """Return whether an image of a segment is long."""
    sides = {*zip(rows.column("width").to_pylist(), rows.column("height").to_pylist(), strict=True)}
    return any(is_long(width, height) for width, height in sides)
