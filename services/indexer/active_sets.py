"""Which embedding set a collection uses, and the state of its index, as a task of the indexer needs to know them."""

import time

from shared.errors import IndexLost, NotFound
from shared.messaging.lost_index import ensure_known
from shared.messaging.worker import WorkerClients
from shared.state import IndexState
from shared.state.locks import segments_lock
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet

_FRESH_S = 1.0  # a manifest is read again after


class SetSuperseded(Exception):
    """The collection has changed to another embedding set, `active`."""

    def __init__(self, active: EmbeddingSet) -> None:
        super().__init__(active.name)
        self.active = active


class ActiveSets:
    """Reads manifests of collections, and keeps the last for a moment."""

    def __init__(self, clients: WorkerClients) -> None:
        self._catalog, self._state, self._queue = clients.catalog, clients.state, clients.queue
        self._kept: dict[str, tuple[float, EmbeddingSet]] = {}  # the last manifest, and when it was read
        self._regions: dict[str, tuple[float, bool]] = {}  # whether there were any, and when that was seen

    def active(self, collection: str, *, fresh: bool = False) -> EmbeddingSet:
        """Return the embedding set that a collection uses, as it was a moment ago.

        Raises:
            NotFound: There is no such collection.
        """
        read, manifest = self._kept.get(collection, (0.0, None))
        if fresh or manifest is None or time.monotonic() - read > _FRESH_S:
            read, manifest = time.monotonic(), self._catalog.get(collection)
            self._kept = {collection: (read, manifest)}
        return manifest

    def has_regions(self, collection: str, *, fresh: bool) -> bool:
        """Return whether a collection's regions are indexed; unless `fresh`, as it was a moment ago."""
        seen, found = self._regions.get(collection, (0.0, False))
        if fresh or time.monotonic() - seen > _FRESH_S:
            seen, found = time.monotonic(), self._catalog.is_there(layout.regions_of(collection))
            self._regions = {collection: (seen, found)}
        return found

    def resolve(self, set_name: str) -> tuple[EmbeddingSet, IndexState]:
        """Return an embedding set that is in use or being filled, and the state of its index.

        A manifest that was read a moment ago will do: a collection that was dropped has no index state, a collection
        that was made anew since has no generation yet, whose buckets the manifest would name, and in an embedding set
        that its collection has left nothing is indexed.

        Raises:
            NotFound: There is no such collection, or the embedding set is not being filled any more.
            SetSuperseded: The collection uses a later embedding set.
            IndexLost: Redis has lost the collection; a rebuild was asked for.
        """
        collection, number = layout.collection_of(set_name), layout.number_of(set_name)
        state = self._state.index_states.get(set_name)
        active = self.active(collection, fresh=state is None)
        if number < active.number:
            raise SetSuperseded(active)
        if active.name == set_name:
            if state is None:
                state = ensure_known(collection, catalog=self._catalog, state=self._state, queue=self._queue)
            return active, state
        filling = self._catalog.embedding_set(set_name)
        if state is None:
            raise IndexLost(f"the index of {set_name!r} was lost; the change to another model restores it")
        return filling, state

    def reopen_if_abandoned(self, active: EmbeddingSet) -> None:
        """Open an embedding set that is closed for a model change whose worker has died, so that tasks can go on."""
        self._kept.clear()
        collection = active.collection
        if not self._state.locks.is_held(segments_lock(collection)) and self._catalog.get(collection) == active:
            self._state.indexed_segments.open(active.name)

    def forget_if_gone(self, set_name: str) -> None:
        """Delete what Redis knows of an embedding set that is gone: a task may have claimed images in it since."""
        try:
            self._catalog.embedding_set(set_name)
        except NotFound:
            self._state.forget(set_name)
