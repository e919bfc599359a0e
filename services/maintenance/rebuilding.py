"""Rebuilds what Redis has lost of a collection from the object store."""

import logging
from collections import Counter

from services.maintenance.exclusive_access import ExclusiveAccess
from services.maintenance.generation_builder import GenerationBuilder
from shared.clients import Clients
from shared.errors import NotFound
from shared.index.generations import GenerationCache, collection_prefix
from shared.index.segment_reader import SegmentReader
from shared.messaging.messages import TuningRequest
from shared.state import Change, IndexState
from shared.state.jobs import Outcome
from shared.storage.catalog import EmbeddingSet

_log = logging.getLogger(__name__)


class IndexRebuilder:
    """Restores claims, indexed segments and buckets of a collection."""

    def __init__(
        self, clients: Clients, generations: GenerationCache, builder: GenerationBuilder, access: ExclusiveAccess
    ) -> None:
        self._catalog, self._state = clients.catalog, clients.state
        self._segments = SegmentReader(clients.store)
        self._generations, self._builder, self._access = generations, builder, access

    def rebuild(self, *, collection: str, job: str | None = None, fit: bool = False) -> None:
        """Restore the index of a collection from the object store alone; `fit` makes a new generation.

        Without a job, a worker found the index lost; other workers may have found so too, and asked before.
        """
        try:
            active = self._catalog.get(collection)
        except NotFound:
            active = None
        if job:
            done = self._state.jobs.reported(job, 0)
        else:
            done = not fit and active is not None and self._state.index_states.get(active.name) is not None
        if done:
            return
        if active is not None:
            with self._access.hold(active):
                self._restore(active, fit=fit)
        if job:
            restored = self._state.claims.count(active.name) if active else 0
            self._state.jobs.report(job, 0, Outcome(affected=restored))

    def ensure_restored(self, embedding_set: EmbeddingSet) -> IndexState:
        """Return the state of an embedding set's index, restored first if Redis has lost it."""
        state = self._state.index_states.get(embedding_set.name)
        if state is None:
            with self._access.hold(embedding_set):
                if self._state.index_states.get(embedding_set.name) is None:
                    self._restore(embedding_set, fit=False)
            state = self._state.index_states.get(embedding_set.name) or IndexState()
        return state

    def _restore(self, embedding_set: EmbeddingSet, *, fit: bool) -> None:
        set_name = embedding_set.name
        current = self._catalog.current_index(set_name)
        counts: Counter[int] = Counter()
        for segment, ids, _ in self._segments.live_rows(embedding_set):
            holders = self._state.claims.claim(set_name, segment, ids.tolist())
            twice = [image_id for image_id, holder in zip(ids.tolist(), holders, strict=True) if holder != segment]
            self._catalog.add_tombstones(set_name, ((segment, image_id) for image_id in twice))
            counts.update(ids.tolist())
            self._state.indexed_segments.add(set_name, segment)
        if current is not None and not fit:
            generation = self._generations.get(embedding_set, current.generation)
            self._builder.fill(generation)
            self._state.index_states.set(set_name, IndexState(current.generation, 0, current.trained_on))
            self._state.buckets.drop(collection_prefix(embedding_set), keep=generation.prefix)
        else:
            state = self._state.index_states.get(set_name)
            self._state.index_states.set(set_name, state or IndexState(current.generation if current else 0))
            if counts:
                self._builder.build(embedding_set, TuningRequest())
        self._state.changes.announce(Change(set_name, "rebuilt"))
        _log.info("%s: rebuilt the index of %d images", set_name, len(counts))
