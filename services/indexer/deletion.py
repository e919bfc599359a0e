"""The indexer's task that deletes images from a collection."""

from collections.abc import Sequence
from functools import partial

from services.indexer.active_sets import ActiveSets
from shared.errors import NotFound, Unavailable
from shared.index.compaction_due import CompactionTrigger
from shared.index.deletion import ImageDeleter
from shared.index.purged_images import PurgedImages
from shared.messaging.lost_index import ensure_known
from shared.messaging.worker import WorkerClients
from shared.state.locks import claims_lock
from shared.state.outcomes import Outcome
from shared.storage.documents import Documents

_WAIT_S = 5.0  # for a merge, while other tasks wait behind this one
_DELETED_AT_ONCE = 16_384  # images, while a merge may have to wait: a second or two


class DeletionTask:
    """Deletes images by their ids."""

    def __init__(self, clients: WorkerClients, deleter: ImageDeleter, active_sets: ActiveSets) -> None:
        self._catalog, self._state, self._queue = clients.catalog, clients.state, clients.queue
        self._deleter, self._active_sets = deleter, active_sets
        self._documents, self._purged = Documents(clients.store), PurgedImages(clients, deleter.segment_ids)
        self._compaction = CompactionTrigger(clients.state, clients.queue)

    def delete(
        self,
        *,
        job: str,
        collection: str,
        image_ids: Sequence[int],
        purge: bool = False,
        from_trash: bool = False,
        had: Sequence[int] | None = None,
    ) -> None:
        """Move images from results, buckets and claims to the trash; images that are not there are passed over.

        With the first page of a document, its other pages go too.

        With `purge`, the trash does not get them, and the maintenance worker is asked to remove what is left of them
        and of their entries in the trash; it reports the job. With `from_trash`, images that the collection has are
        left: they were restored since they were chosen. `had`: those that the collection or its trash had when the
        purge began, as `PurgedImages` noted them.

        Raises:
            Invalid: Images are to be purged, and the trash cannot be read.
            Unavailable: A merge or another deletion goes on, the collection is about to change to another model, or a
                server is away.
        """
        collection = self._catalog.current_name(collection)
        try:
            active = self._catalog.get(collection)
        except NotFound:
            self._state.jobs.report(job, 0, Outcome())
            return
        if self._state.jobs.reported(job, 0):
            return
        if self._state.index_states.get(active.name) is None:
            ensure_known(collection, catalog=self._catalog, state=self._state, queue=self._queue)
        wanted = self._documents.with_pages(list(dict.fromkeys(image_ids)))
        if purge or from_trash:
            had = self._purged.fix(job=job, collection=collection, image_ids=wanted, had=had)
        if from_trash:
            trashed = self._only_in_trash(active.name, wanted)
            self._queue.purge(job=job, collection=collection, image_ids=trashed, had=had)
            return
        removed = 0
        for start in range(0, len(wanted), _DELETED_AT_ONCE):
            chunk = wanted[start : start + _DELETED_AT_ONCE]
            # A merge may not hand over the claims by which the rows are found.
            with self._state.locks.hold(claims_lock(collection), wait_s=_WAIT_S):
                try:
                    active = self._catalog.get(collection)
                except NotFound as error:
                    raise Unavailable(str(error)) from error  # it was renamed or deleted meanwhile
                if self._state.indexed_segments.is_closed(active.name):
                    self._active_sets.reopen_if_abandoned(active)
                    raise Unavailable(f"{collection!r} is about to change to another model or name")
                filling = self._catalog.filling(active)
                if filling is not None:
                    self._state.model_changes.add_pending_deletes(filling.name, chunk)
                removed += self._deleter.delete(
                    active, chunk, into_trash=not purge, noted=partial(self._state.jobs.note_once, job, str(start))
                )
                # A merge that has the lock by now may have handed over claims that were to be released.
                self._state.locks.check(claims_lock(collection))
        if removed:
            self._compaction.rows_deleted(active, removed)
        if purge:
            self._queue.purge(job=job, collection=collection, image_ids=wanted, had=had)
            return
        self._state.jobs.report(job, 0, Outcome(affected=removed))

    def _only_in_trash(self, set_name: str, image_ids: Sequence[int]) -> list[int]:
        """Return the images that the collection does not have; of these, a purge removes what is left, and no row."""
        holders = self._state.claims.holders(set_name, image_ids)
        return [image_id for image_id, holder in zip(image_ids, holders, strict=True) if holder is None]
