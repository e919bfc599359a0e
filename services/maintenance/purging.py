"""Purging: removes for good what is left of images that were deleted from a collection."""

import logging
from collections.abc import Sequence, Set

from services.maintenance.compaction import Compactor
from shared.duplicates.store import Duplicates
from shared.errors import NotFound, Renamed, Unavailable
from shared.evaluation.redaction import EvaluationRedactor
from shared.index.deletion import ImageDeleter, windows_of
from shared.index.originals import Originals
from shared.index.purged_images import PurgedImages
from shared.maps.maps import Maps
from shared.messaging.worker import WorkerClients
from shared.records.record_store import RecordStore
from shared.state import Change, Rejection
from shared.state.locks import LEASE_S, claims_lock, segments_lock
from shared.state.outcomes import LEFT, Outcome
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from shared.storage.trash import Trash

_log = logging.getLogger(__name__)

_FEW = 64  # images whose originals are looked up one by one; for more, all originals are listed


class Purger:
    """Purges images; every call may run twice."""

    def __init__(
        self, clients: WorkerClients, *, compactor: Compactor, deleter: ImageDeleter, originals: Originals
    ) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog
        self._queue = clients.queue
        self._compactor, self._deleter, self._originals = compactor, deleter, originals
        self._segment_ids, self._trash = deleter.segment_ids, Trash(clients.store)
        self._records = RecordStore(clients.store, clients.state.record_changes)
        self._redactor, self._purged = EvaluationRedactor(clients), PurgedImages(clients, self._segment_ids)
        self._duplicates, self._maps = Duplicates(clients.store), Maps(clients.store)

    def purge(self, *, job: str, collection: str, image_ids: Sequence[int], had: Sequence[int] | None = None) -> None:
        """Remove rows, trash entries, originals that nothing else holds, and what evaluations say of images.

        What others remember of an image goes only if it is among `had`: see `PurgedImages`. Of other images, only
        what this collection remembers is removed. The job's rejections name what is left, and why.

        Raises:
            Unavailable: The collection changes to another model, a batch is not reported yet, or a server is away.
        """
        if self._state.jobs.reported(job, 0):
            return
        wanted = list(dict.fromkeys(image_ids))
        with self._state.locks.hold(segments_lock(collection), wait_s=LEASE_S + 1):
            own = set(self._purged.fix(job=job, collection=collection, image_ids=wanted, had=had)) & set(wanted)
            left = self._remove_rows(collection, wanted)
            digests = self._digests(collection, own)
            left |= self._remove_windows(collection, digests)
            # Before the originals and entries, which alone tell the digests. Who has one still tries it once more.
            self._store.delete([layout.set_aside_key(digest) for digest in digests])
            kept = self._originals.delete_unheld(digests, emptying=collection)
            self._state.locks.check(segments_lock(collection))
            self._trash.remove(collection, digests)
            self._records.erase(collection, wanted, self._state.locks)
            self._duplicates.forget(collection, wanted)
        left |= {
            layout.image_id(digest): f"its original stays: {reason.text}"
            for digest, reason in kept.items()
            if not reason.certain
        }
        gone = own - {layout.image_id(digest) for digest in kept}
        unreadable = self._redactor.redact(set(wanted), collection=collection) + self._redactor.redact(gone)
        left |= {image_id: unreadable[0] for image_id in own if unreadable}
        self._state.journal.note_purge()
        self._state.journal.rewrite()
        self._queue.rewrite_journal()
        rejected = tuple(Rejection(str(image_id), LEFT, reason) for image_id, reason in sorted(left.items()))
        self._state.jobs.report(job, 0, Outcome(affected=len(own - left.keys()), rejected=rejected))

    def _remove_rows(self, collection: str, image_ids: Sequence[int]) -> dict[int, str]:
        """Rewrite the segments that have deleted rows of images; returns the images of which some are left, and why."""
        try:
            active = self._catalog.get(collection)
        except Renamed:
            raise
        except NotFound:
            return {}
        if self._state.model_changes.get(collection) is not None:
            raise Unavailable(f"{collection!r} changes to another model: what is to be purged waits")
        left: dict[int, str] = {}
        for embedding_set in (active, *self._catalog.unused_embedding_sets(collection)):
            set_name = embedding_set.name
            self._compactor.recover(set_name)
            if embedding_set is not active:  # it was left behind: nothing deletes from it
                with self._state.locks.hold(claims_lock(collection), wait_s=LEASE_S):
                    self._deleter.delete(embedding_set, image_ids)
            left |= self._rewrite(embedding_set, image_ids)
            self._state.locks.check(segments_lock(collection))
            self._maps.forget(embedding_set.name, image_ids)
        return left

    def _remove_windows(self, collection: str, digests: Sequence[str]) -> dict[int, str]:
        """Remove what is left of the windows of images; returns the images of which some are left, and why."""
        name = layout.regions_of(collection)
        if not digests or not self._catalog.is_there(name):
            return {}
        self._deleter.delete_windows(collection, digests)
        with self._state.locks.hold(segments_lock(name), wait_s=LEASE_S + 1):
            regions = self._catalog.get(name)
            self._compactor.recover(regions.name)
            left = self._rewrite(regions, windows_of(digests))
        return {
            layout.image_id(digest): next(left[window] for window in windows_of([digest]) if window in left)
            for digest in digests
            if not left.keys().isdisjoint(windows_of([digest]))
        }

    def _rewrite(self, embedding_set: EmbeddingSet, image_ids: Sequence[int]) -> dict[int, str]:
        """Rewrite the segments of a set that have deleted rows of images; returns which are left, and why."""
        set_name = embedding_set.name
        found = self._segment_ids.find(set_name, image_ids)
        self._compactor.rewrite(embedding_set, sorted(found.by_segment))
        left = self._left(embedding_set, image_ids)
        idle = self._idle_tombstones(set_name, image_ids)
        # Another worker's merge may need them by now: it carries them over after it has deleted its inputs.
        self._state.locks.check(segments_lock(embedding_set.collection))
        self._catalog.remove_tombstones(set_name, idle)
        # The replicas drop the files of what was rewritten.
        self._state.changes.announce(Change(set_name, "rebuilt"))
        return left

    def _left(self, embedding_set: EmbeddingSet, image_ids: Sequence[int]) -> dict[int, str]:
        """Return the images that may still have a deleted row, and why; an image that came back has a live one."""
        set_name, left = embedding_set.name, dict[int, str]()
        found = self._segment_ids.find(set_name, image_ids)
        for segment, reason in found.unreadable.items():
            left |= dict.fromkeys(image_ids, f"the segment {segment} may have it and cannot be read: {reason}")
        for segment, ids in found.by_segment.items():
            for image_id in set(ids) & self._catalog.tombstones_of(set_name, segment):
                left[image_id] = f"the segment {segment} could not be rewritten: no job has reported it"
        return left

    def _idle_tombstones(self, set_name: str, image_ids: Sequence[int]) -> list[tuple[str, int]]:
        """Return the tombstones of images in segments that are gone."""
        segments = set(self._catalog.segments(set_name))
        wanted = set(image_ids)
        return [
            (segment, image_id)
            for segment, image_id in self._catalog.tombstones(set_name)
            if image_id in wanted and segment not in segments
        ]

    def _digests(self, collection: str, wanted: Set[int]) -> list[str]:
        """Return the digests of images: of their originals, and of their entries in the trash."""
        prefixes = (
            [of(image_id) for image_id in wanted for of in (layout.originals_prefix, layout.links_prefix)]
            if len(wanted) <= _FEW
            else [layout.ORIGINALS, layout.LINKS]
        )
        keys = (layout.original_of(item.key) for prefix in prefixes for item in self._store.list(prefix))
        digests = {*keys, *self._trash.digests(collection)}
        return sorted(digest for digest in digests if layout.image_id(digest) in wanted)
