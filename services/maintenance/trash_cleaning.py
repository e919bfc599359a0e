"""Cleaning the trash: entries expire, and those whose image is in the collection again are removed."""

import logging
import time
from collections.abc import Sequence

from shared.errors import Invalid, NotFound
from shared.index.originals import Originals
from shared.index.restoring import present_images
from shared.messaging.task_queue import TaskQueue
from shared.messaging.worker import WorkerClients
from shared.records.record_store import RecordStore
from shared.state.locks import LEASE_S, claims_lock, segments_lock
from shared.storage import layout
from shared.storage.trash import Trash

_log = logging.getLogger(__name__)

_DAY_S = 24 * 3600.0


class TrashDuty:
    """Asks every hour for the trash to be cleaned."""

    name, every_s = "trash", 3600.0

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    def run(self) -> None:
        """Ask.

        Raises:
            Unavailable: The broker does not answer.
        """
        self._queue.clean_trash()


class TrashCleaner:
    """Cleans the trash of all collections; it may run twice, and at the same time. Entries last `days` days."""

    def __init__(self, clients: WorkerClients, originals: Originals, *, days: float) -> None:
        self._clients, self._originals, self._days = clients, originals, days
        self._trash = Trash(clients.store)
        self._records = RecordStore(clients.store, clients.state.record_changes)

    def clean(self) -> None:
        """Remove what is due. An original that nothing holds any more is deleted with its entry.

        Raises:
            Unavailable: A server is away, or Redis has lost a collection.
        """
        for collection in self._trash.collections():
            # A collection that is renamed takes its trash along.
            with self._clients.state.locks.hold(segments_lock(collection), wait_s=LEASE_S + 1):
                self._clean(collection)

    def _clean(self, collection: str) -> None:
        locks = self._clients.state.locks
        try:
            # No image may be deleted again between the look and the removal of its entry.
            with locks.hold(claims_lock(collection), wait_s=LEASE_S + 1):
                digests = self._trash.digests(collection)
                present = self._present(collection, digests)
                locks.check(claims_lock(collection))
                self._trash.remove(collection, sorted(present))
        except Invalid as error:
            _log.warning("%s: its trash is not cleaned: %s", collection, error)
            return
        before = time.time() - self._days * _DAY_S
        left = [digest for digest in digests if digest not in present]
        expired = [entry.digest for entry in self._trash.entries(collection, left) if entry.deleted <= before]
        if not expired:
            return
        kept = self._originals.delete_unheld(expired, emptying=collection)
        # An upload that is on its way is perhaps this image being restored.
        pinned = self._clients.state.pins.pinned(expired)
        uncertain = {digest for digest, reason in kept.items() if not reason.certain}
        removed = [digest for digest in expired if digest not in pinned | uncertain]
        self._records.erase(collection, map(layout.image_id, removed), locks)
        self._trash.remove(collection, removed)
        _log.info("%s: %d images left the trash", collection, len(removed))

    def _present(self, collection: str, digests: Sequence[str]) -> set[str]:
        try:
            return present_images(self._clients, collection, digests)
        except NotFound:
            return set()
