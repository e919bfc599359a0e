"""Drops collections, and embedding sets that their collection has left."""

import logging

from shared.clients import Clients
from shared.errors import Invalid, NotFound
from shared.index.deletion import ImageDeleter
from shared.index.generations import collection_prefix
from shared.index.segment_reader import SegmentReader
from shared.state import Change
from shared.state.jobs import Outcome
from shared.state.locks import segments_lock
from shared.storage import segments
from shared.storage.catalog import EmbeddingSet

_log = logging.getLogger(__name__)

_WAIT_S = 5.0  # for the lock, while other tasks wait behind this one


class Dropper:
    """Drops collections and embedding sets."""

    def __init__(self, clients: Clients, deleter: ImageDeleter) -> None:
        self._catalog, self._state, self._deleter = clients.catalog, clients.state, deleter
        self._segments = SegmentReader(clients.store)

    def drop(self, *, job: str, collection: str) -> None:
        """Remove a collection: manifest, segments, index and the originals that no other collection holds.

        Raises:
            Locked: Another worker reads or rewrites all segments of the collection.
        """
        try:
            self._catalog.get(collection)
        except NotFound:
            self._state.changes.announce(Change(collection, "dropped"))
            # The collection is gone, whatever embedding set it used.
            self._state.changes.announce(Change(collection, "collection"))
            self._state.jobs.report(job, 0, Outcome())
            return
        with self._state.locks.hold(segments_lock(collection), wait_s=_WAIT_S):
            active = self._catalog.get(collection)
            for unused in self._catalog.unused_embedding_sets(collection):
                self.drop_embedding_set(unused)
            removed = self._drop_active(active)
        self._state.jobs.report(job, 0, Outcome(affected=removed))

    def _drop_active(self, active: EmbeddingSet) -> int:
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
        self._deleter.ensure_others_known(active.collection)
        self._state.forget(active.name)
        self._deleter.delete_originals(sorted(digests), leaving=active.collection)
        self.drop_embedding_set(active)
        return len(live)

    def drop_embedding_set(self, embedding_set: EmbeddingSet) -> None:
        """Remove an embedding set: index, segments, manifest. The caller holds the lock on the segments."""
        self._state.forget(embedding_set.name)
        # Before the manifest, which alone knows the names of the buckets.
        self._state.buckets.drop(collection_prefix(embedding_set))
        self._catalog.drop(embedding_set)
        self._state.changes.announce(Change(embedding_set.name, "dropped"))
