"""Gives images that a collection has the labels that they were handed in with anew.

Segments never change. So an image with another label gets a row in a new segment, with the embedding that it has, and
its old row a tombstone. Between the two announcements the query service shows the old row: an image is never absent
from searches, and never there twice. The new segment has the name of its batch, so a second run finds what the first
has written. All of it holds the lock on the segments, and the moving of the claims the lock on claims too.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.maintenance.exclusive_access import ExclusiveAccess
from shared.errors import Invalid, NotFound, ObjectNotFound, Renamed
from shared.index.compaction_due import CompactionTrigger
from shared.index.generations import GenerationCache
from shared.index.segment_reader import SegmentReader, float32
from shared.messaging.lost_index import ensure_known
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.state import Change, IndexState, deletions
from shared.state.locks import claims_lock
from shared.state.outcomes import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet
from shared.storage.segments import Entry

_WAIT_S = 60.0  # as long as a deletion may hold up a relabelling


@dataclass(frozen=True)
class _Row:
    """A row as it is to be: its entry with the new label and name, and its embedding, float32 or float16 [dim]."""

    entry: Entry
    vector: segments.Vectors


class Relabeller:
    """Relabels images; every call may run twice or die anywhere."""

    def __init__(self, clients: WorkerClients, generations: GenerationCache, access: ExclusiveAccess) -> None:
        self._store, self._catalog, self._state = clients.store, clients.catalog, clients.state
        self._queue, self._generations, self._access = clients.queue, generations, access
        self._reader = SegmentReader(clients.store)
        self._compaction = CompactionTrigger(clients.state, clients.queue)

    def relabel(self, *, job: str, batch: int, collection: str, items: Sequence[BatchImage], keep: bool) -> None:
        """Give images their new labels, and report how many had another; with `keep`, only report that.

        Images that the collection does not have any more are passed over. All of them count as duplicates.

        Raises:
            Unavailable: Another worker is at the collection's segments, or a server is away.
        """
        if self._state.jobs.reported(job, batch):
            return
        relabelled = kept = 0
        try:
            active = self._catalog.get(collection)
        except Renamed:
            raise
        except NotFound:
            pass
        else:
            ensure_known(collection, catalog=self._catalog, state=self._state, queue=self._queue)
            with self._access.hold(active):
                active, segment = self._catalog.get(collection), layout.batch_segment(job, batch)
                begun = self._store.exists(layout.segment_key(active.name, segment))
                rows = [] if begun else self._differing(active, items)
                if keep:
                    kept = len(rows)
                elif begun or (rows and not self._state.jobs.cancelled(job)):
                    relabelled = self._move(active, segment, rows)
        self._state.jobs.report(job, batch, Outcome({}, len(items), relabelled=relabelled, labels_kept=kept))
        if relabelled:
            self._compaction.segment_added(active)
            self._compaction.rows_deleted(active, relabelled)

    def _differing(self, active: EmbeddingSet, items: Sequence[BatchImage]) -> list[_Row]:
        """Return the rows with another label than their items', as they are to be; items without label change none."""
        wanted = {layout.image_id(item.digest): item for item in items if item.label}
        by_segment: defaultdict[str, list[int]] = defaultdict(list)
        for image_id, holder in zip(wanted, self._state.claims.holders(active.name, list(wanted)), strict=True):
            if holder is not None:
                by_segment[holder].append(image_id)
        found = []
        for holder in sorted(self._state.indexed_segments.among(active.name, sorted(by_segment))):
            try:
                rows = self._reader.read(active, holder)
            except (ObjectNotFound, Invalid):  # nothing is known of its labels; it is named as damaged elsewhere
                continue
            ids, vectors = segments.ids_of(rows), segments.vectors_of(rows)
            deleted = self._catalog.tombstones_of(active.name, holder)
            for row in np.flatnonzero(np.isin(ids, np.array(by_segment[holder], dtype=np.int64))).tolist():
                entry = segments.entry_of(rows, row)
                item = wanted[entry.id]
                if entry.id not in deleted and entry.label != item.label:
                    found.append(_Row(replace(entry, label=item.label, name=item.name), vectors[row].copy()))
        return found

    def _move(self, active: EmbeddingSet, segment: str, rows: Sequence[_Row]) -> int:
        """Write the new rows, unless an earlier attempt has, and have them take the place of the old ones.

        Returns:
            How many images have the new rows.
        """
        set_name = active.name
        if rows:
            data = segments.pack(
                [row.entry for row in rows],
                _stacked([row.vector for row in rows]),
                collection=set_name,
                model=active.model,
                version=active.version,
            )
            self._store.put(layout.segment_key(set_name, segment), data)
        written = self._reader.read(active, segment)
        ids, vectors = segments.ids_of(written), float32(written)
        with self._state.locks.hold(claims_lock(active.collection), wait_s=_WAIT_S):
            holders = dict(zip(ids.tolist(), self._state.claims.holders(set_name, ids.tolist()), strict=True))
            # A deletion that came between has deleted the new row too: an image that came back has its row elsewhere.
            deleted = self._catalog.tombstones_of(set_name, segment)
            taken = {
                image_id: holder
                for image_id, holder in holders.items()
                if holder is not None and image_id not in deleted
            }
            self._catalog.add_tombstones(
                set_name, ((segment, image_id) for image_id in holders if image_id not in taken.keys() | deleted)
            )
            filling = self._catalog.filling(active)
            if filling is not None:  # so that it gets the images with their new labels
                self._state.model_changes.add_pending_deletes(filling.name, list(taken))
            self._state.indexed_segments.add(set_name, segment)
            live = np.array([image_id in taken for image_id in ids.tolist()], dtype=np.bool_)
            for number in (self._state.index_states.get(set_name) or IndexState()).generations if live.any() else ():
                generation = self._generations.get(active, number)
                generation.add(self._state.buckets, ids[live], vectors[live])  # they are there, unless some were lost
            self._state.locks.check(claims_lock(active.collection))
            self._replace_rows(set_name, segment, taken)
        return len(taken)

    def _replace_rows(self, set_name: str, segment: str, taken: Mapping[int, str]) -> None:
        """Announce the new rows, delete the old ones, and claim the images for the new ones, which is last.

        By the claims, a second run finds what is left to do.
        """
        others = {holder for holder in taken.values() if holder != segment}
        indexed = self._state.indexed_segments.among(set_name, sorted(others))
        old = [(holder, image_id) for image_id, holder in taken.items() if holder in indexed]
        self._state.changes.announce(Change(set_name, "segment", segment))
        self._catalog.add_tombstones(set_name, old)
        self._state.changes.announce(*deletions(set_name, old))
        self._state.claims.assign(set_name, dict.fromkeys(taken, segment))


def _stacked(vectors: Sequence[segments.Vectors]) -> segments.Vectors:
    """Return embeddings as one array [n, dim]: float32 if any of them is, else float16."""
    single = any(vector.dtype == np.float32 for vector in vectors)
    return np.stack([vector.astype(np.float32 if single else np.float16) for vector in vectors])
