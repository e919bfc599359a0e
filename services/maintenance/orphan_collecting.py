"""Collecting orphans: originals that nothing holds, such as those of an upload that died before it was embedded."""

import logging
import time
from collections.abc import Iterator
from itertools import chain, islice

from shared.errors import Invalid, NotFound
from shared.index.originals import Originals
from shared.messaging.task_queue import TaskQueue
from shared.messaging.worker import WorkerClients
from shared.storage import layout
from shared.storage.original_files import OriginalFiles

_log = logging.getLogger(__name__)

_HOUR_S = 3600.0
_PIECE = 4096  # originals whose claims are looked up at a time


class OrphanDuty:
    """Asks every day for orphans to be collected."""

    name, every_s = "orphans", 24 * _HOUR_S

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    def run(self) -> None:
        """Ask.

        Raises:
            Unavailable: The broker does not answer.
        """
        self._queue.collect_orphans()


class OrphanCollector:
    """Deletes the originals that nothing has held for `grace_h` hours; it may run twice, and at the same time."""

    def __init__(self, clients: WorkerClients, originals: Originals, *, grace_h: float) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog
        self._originals, self._grace_h = originals, grace_h

    def collect(self) -> int:
        """Delete the orphans that were written long enough ago; returns how many there were.

        Raises:
            Unavailable: A server is away, or Redis has lost a collection.
        """
        self._originals.ensure_known()
        before = time.time() - self._grace_h * _HOUR_S
        items = chain(self._store.list(layout.ORIGINALS), self._store.list(layout.LINKS))
        old = (layout.original_of(item.key) for item in items if item.modified <= before)
        deleted = 0
        while piece := list(islice(old, _PIECE)):
            unclaimed = self._unclaimed(piece)
            deleted += len(unclaimed) - len(self._originals.delete_unheld(unclaimed))
        for prefix in (layout.DERIVATIVES, layout.THUMBNAILS, layout.FEATURES):
            self._collect_made(prefix, before)
        if deleted:
            _log.warning("%d originals that nothing held were deleted", deleted)
        return deleted

    def _collect_made(self, prefix: str, before: float) -> None:
        """Delete what was made of originals that are gone: a worker died between the two."""
        keys = (item.key for item in self._store.list(prefix) if item.modified <= before)
        digests = (key.removeprefix(prefix) for key in keys)
        while piece := list(islice(digests, _PIECE)):
            unclaimed = self._unclaimed(piece)
            self._originals.delete_unheld(
                [digest for digest in unclaimed if not OriginalFiles(self._store).exists(digest)]
            )

    def _unclaimed(self, digests: list[str]) -> list[str]:
        """Return the originals that no collection has claimed: a first look, which needs no other."""
        left = digests
        for set_name in self._set_names():
            holders = self._state.claims.holders(set_name, [layout.image_id(digest) for digest in left])
            left = [digest for digest, holder in zip(left, holders, strict=True) if holder is None]
        return left

    def _set_names(self) -> Iterator[str]:
        for name in self._catalog.names():
            try:
                yield self._catalog.get(name).name
            except (NotFound, Invalid):
                continue
