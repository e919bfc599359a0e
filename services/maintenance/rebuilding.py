"""Rebuilds what Redis has lost of a collection from the object store."""

import logging

from services.maintenance.claim_restorer import ClaimRestorer
from services.maintenance.exclusive_access import ExclusiveAccess
from services.maintenance.generation_builder import GenerationBuilder
from shared.clients import Clients
from shared.errors import Invalid, NotFound, ObjectNotFound, TooNew
from shared.index.bucket_surplus import remove_surplus
from shared.index.generations import Generation, collection_prefix
from shared.messaging.messages import TuningRequest
from shared.state import Change, IndexState
from shared.state.locks import segments_lock
from shared.state.outcomes import Outcome
from shared.storage import layout
from shared.storage.catalog import CurrentIndex, EmbeddingSet

_log = logging.getLogger(__name__)


class IndexRebuilder:
    """Restores claims, indexed segments and buckets of a collection."""

    def __init__(self, clients: Clients, builder: GenerationBuilder, access: ExclusiveAccess) -> None:
        self._store, self._catalog, self._state = clients.store, clients.catalog, clients.state
        self._claims = ClaimRestorer(clients)
        self._builder, self._access = builder, access

    def rebuild(self, *, collection: str, job: str | None = None, fit: bool = False) -> None:
        """Restore the index of a collection from the object store alone; `fit` makes a new generation.

        With a job, the index of its regions is restored too. Without, a worker found the index lost; other workers may
        have found so too, and asked before.
        """
        try:
            active = self._catalog.get(collection)
        except NotFound:
            active = None
        asked_before = not fit and active is not None and self._is_whole(active)
        done = self._state.jobs.reported(job, 0) if job else asked_before
        if done:
            return
        if active is not None:
            with self._access.hold(active):
                self._restore(active, fit=fit)
        if job:
            self._restore_regions(collection, fit=fit)
            restored = self._state.claims.count(active.name) if active else 0
            self._state.jobs.report(job, 0, Outcome(affected=restored))

    def _restore_regions(self, collection: str, *, fit: bool) -> None:
        try:
            regions = self._catalog.get(layout.regions_of(layout.collection_with(collection)))
        except NotFound:
            return
        if regions.collection != collection:
            with self._access.hold(regions):
                self._restore(regions, fit=fit)

    def _is_whole(self, active: EmbeddingSet) -> bool:
        known = self._state.index_states.get(active.name) is not None
        return known and not self._state.suspects.contains(active.name)

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
        set_name, lock = embedding_set.name, segments_lock(embedding_set.collection)
        images = self._claims.restore(embedding_set)
        self._state.region_coverage.forget(set_name)  # some windows may be lost
        current = self._current(embedding_set)
        generation = None if current is None or fit else self._readable(embedding_set, current.generation)
        if current is not None and generation is not None:
            self._builder.fill(generation)
            self._state.index_states.set(set_name, IndexState(current.generation, 0, current.trained_on))
            self._state.locks.check(lock)
            self._state.buckets.drop(collection_prefix(embedding_set), keep=generation.prefix)
        else:
            state = self._state.index_states.get(set_name)
            self._state.index_states.set(set_name, state or IndexState(current.generation if current else 0))
            if images:
                self._builder.build(embedding_set, TuningRequest())
        remove_surplus(self._state, embedding_set)
        self._state.suspects.remove(set_name)
        self._state.changes.announce(Change(set_name, "rebuilt"))
        _log.info("%s: rebuilt the index of %d images", set_name, images)

    def _current(self, embedding_set: EmbeddingSet) -> CurrentIndex | None:
        """Return which generation is in use; None if there is none, or if nobody can tell: another one is made then."""
        try:
            return self._catalog.current_index(embedding_set.name)
        except TooNew:
            raise
        except Invalid as error:
            _log.error("%s: another generation is made: %s", embedding_set.collection, error)
            return None

    def _readable(self, embedding_set: EmbeddingSet, number: int) -> Generation | None:
        """Return a generation; None if it is damaged or missing: another one is made then."""
        try:
            return Generation.load(self._store, embedding_set, number)
        except TooNew:
            raise
        except (Invalid, ObjectNotFound) as error:
            _log.error("%s: another generation is made: %s", embedding_set.collection, error)
            return None
