"""Drops collections, and embedding sets that their collection has left."""

import logging

from shared.access import AccessStore
from shared.clients import Clients
from shared.duplicates.store import Duplicates
from shared.errors import Invalid, Locked, NotFound, Renamed
from shared.index.generations import collection_prefix
from shared.index.originals import Originals
from shared.index.segment_reader import SegmentReader
from shared.records.record_store import RecordStore
from shared.state import Change, Rejection
from shared.state.locks import regions_lock, segments_lock
from shared.state.outcomes import REFUSED, Outcome
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet
from shared.storage.kept_queries import KeptQueries
from shared.storage.trash import Trash

_log = logging.getLogger(__name__)

_WAIT_S = 5.0  # for the lock, while other tasks wait behind this one


class Dropper:
    """Drops collections and embedding sets."""

    def __init__(self, clients: Clients, originals: Originals) -> None:
        self._catalog, self._state, self._originals = clients.catalog, clients.state, originals
        self._segments, self._trash = SegmentReader(clients.store), Trash(clients.store)
        self._kept_queries = KeptQueries(clients.store)
        self._records = RecordStore(clients.store, clients.state.record_changes)
        self._access = AccessStore(clients.store, clients.state)
        self._duplicates = Duplicates(clients.store)

    def drop(self, *, job: str, collection: str) -> None:
        """Remove a collection: manifest, segments, index and the originals that no other collection holds.

        Raises:
            Locked: Another worker reads or rewrites all segments of the collection, or its rename has not ended.
        """
        if self._catalog.renames.taking(collection) is not None:
            raise Locked(f"the rename to {collection!r} has not ended")
        try:
            self._catalog.get(collection)
        except Renamed as error:
            self._state.jobs.report(job, 0, Outcome(rejected=(Rejection("", REFUSED, str(error)),)))
            return
        except NotFound:
            self._state.changes.announce(Change(collection, "dropped"))
            # The collection is gone, whatever embedding set it used.
            self._state.changes.announce(Change(collection, "collection"))
            self._empty_trash(collection, set())
            self._records.drop(collection)
            self._duplicates.drop(collection)
            self._kept_queries.drop(collection)
            self._access.forget_collection(collection)
            with self._state.locks.hold(regions_lock(collection), wait_s=_WAIT_S):
                self.drop_regions(collection)
            self._state.jobs.report(job, 0, Outcome(affected=self._state.jobs.note_once(job, "dropped", 0)))
            return
        # Both locks before anything goes: another worker may hold the regions for a minute.
        with (
            self._state.locks.hold(regions_lock(collection), wait_s=_WAIT_S),
            self._state.locks.hold(segments_lock(collection), wait_s=_WAIT_S),
        ):
            active = self._catalog.get(collection)
            for unused in self._catalog.unused_embedding_sets(collection):
                self.drop_embedding_set(unused)
            removed = self._drop_active(active, job)
            self.drop_regions(collection)
            self._records.drop(collection)
            self._duplicates.drop(collection)
            self._kept_queries.drop(collection)
            self._access.forget_collection(collection)
        self._state.jobs.report(job, 0, Outcome(affected=removed))

    def _drop_active(self, active: EmbeddingSet, job: str) -> int:
        """Remove the embedding set in use; returns how many images it had, also when an attempt has died at it."""
        digests: set[str] = set()
        live: set[int] = set()
        tombstones = self._catalog.tombstones(active.name)
        for segment in self._catalog.segments(active.name):
            try:
                rows = self._segments.read(active, segment)
            except Invalid as error:
                _log.error("%s: the originals of a damaged segment, %s, stay: %s", active.collection, segment, error)
                continue
            digests |= {digest.as_py().hex() for digest in rows.column("digest")}
            ids = segments.ids_of(rows).tolist()
            live |= {image_id for image_id in ids if (segment, image_id) not in tombstones}
        self._originals.ensure_known(leaving=active.collection)
        self._state.locks.check(segments_lock(active.collection))
        count = self._state.jobs.note_once(job, "dropped", len(live))
        self._state.forget(active.name)
        self._empty_trash(active.collection, digests)
        self.drop_embedding_set(active)
        return count

    def _empty_trash(self, collection: str, digests: set[str]) -> None:
        """Remove the trash of a collection that is dropped, and originals of it and others that nothing else holds."""
        try:
            trashed = self._trash.digests(collection)
        except Invalid as error:  # whatever was in it is held by nothing then, and collected later
            _log.error("the trash of %s goes unread: %s", collection, error)
            trashed = []
        self._originals.delete_unheld(sorted({*digests, *trashed}), leaving=collection, emptying=collection)
        self._trash.remove_all(collection)

    def drop_regions(self, collection: str) -> int:
        """Remove the index of a collection's regions, if there is one; returns how many windows it had.

        The caller holds the lock on the regions.

        Raises:
            Locked: Another worker reads or rewrites all segments of it.
        """
        name, windows = layout.regions_of(collection), 0
        if not self._catalog.is_there(name):
            return 0
        with self._state.locks.hold(segments_lock(name), wait_s=_WAIT_S):
            regions = self._catalog.get(name)
            windows = self._state.claims.count(regions.name)
            self.drop_embedding_set(regions)
        self._state.changes.announce(Change(name, "collection"))
        return windows

    def drop_embedding_set(self, embedding_set: EmbeddingSet) -> None:
        """Remove an embedding set: index, segments, manifest. The caller holds the lock on the segments."""
        lock = segments_lock(embedding_set.collection)
        self._state.locks.check(lock)
        self._state.forget(embedding_set.name)
        # Before the manifest, which alone knows the names of the buckets.
        self._state.buckets.drop(collection_prefix(embedding_set))
        self._state.locks.check(lock)
        self._catalog.drop(embedding_set)
        self._state.changes.announce(Change(embedding_set.name, "dropped"))
