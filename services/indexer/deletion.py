"""The indexer's task that deletes images from a collection."""

from collections.abc import Sequence

from services.indexer.active_sets import ActiveSets
from shared.errors import NotFound, Unavailable
from shared.index.compaction_due import CompactionTrigger
from shared.index.deletion import ImageDeleter
from shared.messaging.lost_index import ensure_known
from shared.messaging.worker import WorkerClients
from shared.state.jobs import Outcome
from shared.state.locks import claims_lock

_WAIT_S = 5.0  # for a merge, while other tasks wait behind this one
_DELETED_AT_ONCE = 512  # images, while a merge may have to wait


class DeletionTask:
    """Deletes images by their ids."""

    def __init__(self, clients: WorkerClients, deleter: ImageDeleter, active_sets: ActiveSets) -> None:
        self._catalog, self._state, self._queue = clients.catalog, clients.state, clients.queue
        self._deleter, self._active_sets = deleter, active_sets
        self._compaction = CompactionTrigger(clients.state, clients.queue)

    def delete(self, *, job: str, collection: str, image_ids: Sequence[int]) -> None:
        """Remove images from results, buckets, claims and store; images that are not there are passed over.

        Raises:
            Unavailable: A merge or another deletion goes on, the collection is about to change to another model, or a
                server is away.
        """
        try:
            active = self._catalog.get(collection)
        except NotFound:
            self._state.jobs.report(job, 0, Outcome())
            return
        ensure_known(collection, catalog=self._catalog, state=self._state, queue=self._queue)
        wanted = list(dict.fromkeys(image_ids))
        removed = 0
        for start in range(0, len(wanted), _DELETED_AT_ONCE):
            chunk = wanted[start : start + _DELETED_AT_ONCE]
            # A merge may not hand over the claims by which the rows are found.
            with self._state.locks.hold(claims_lock(collection), wait_s=_WAIT_S):
                active = self._catalog.get(collection)
                if self._state.indexed_segments.is_closed(active.name):
                    self._active_sets.reopen_if_abandoned(active)
                    raise Unavailable(f"{collection!r} is about to change to another model")
                filling = self._catalog.filling(active)
                if filling is not None:
                    self._state.model_changes.add_pending_deletes(filling.name, chunk)
                removed += self._deleter.delete(active, chunk)
        if removed:
            self._compaction.rows_deleted(active, removed)
        self._state.jobs.report(job, 0, Outcome(affected=removed))
