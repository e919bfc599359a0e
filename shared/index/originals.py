"""The originals that all collections share: the only place that deletes them, and only those that nothing holds.

What was made of an original, its derivative, thumbnail and local features, goes with it, and so does a link: the file
that it leads to stays with its owner. A document goes with the last of its page files.

An original is held by a claim or a row in any embedding set of any collection, by an entry in a trash, by a page file
of it, and by a pin: an upload that is on its way. What cannot be read counts as held, since it may hold anything.
"""

import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shared.clients import Clients
from shared.errors import Invalid, Locked, NotFound, StoreUnavailable
from shared.index.segment_ids import SegmentIds
from shared.messaging.lost_index import ensure_known
from shared.messaging.task_queue import TaskQueue
from shared.storage import layout
from shared.storage.catalog import Catalog
from shared.storage.documents import Documents
from shared.storage.trash import Trash

_log = logging.getLogger(__name__)

LEASE_S = 60.0
"""Seconds after which the mark of a worker that died lapses: longer than a request to delete can still take effect,
since the store is waited for half a minute."""
_FRESH_S = 10.0  # the age of a mark at which nothing is deleted any more
_TRIES = 5
_PIECE = 128  # originals at a time: to look for their holders must take less than `LEASE_S`
_READS = 8  # at a time
_BESIDE = (
    layout.derivative_key,
    layout.thumbnail_key,
    layout.features_key,
    layout.document_key,
    layout.link_key,
)
_LOOKUPS = 64  # trash entries that are asked for one by one; for more, the trash is listed


ELSEWHERE = "another collection may hold it, and cannot be read: the log of the worker names it"
"""What is told of damage in a collection to people who may not know that there is one."""


@dataclass(frozen=True)
class Kept:
    """Why an original is kept; not `certain`: what may hold it cannot be read.

    What is not certain is told to whoever wanted it gone, so it names no other collection.
    """

    text: str
    certain: bool = True


@dataclass(frozen=True)
class _Leaving:
    """Whose claims and rows, whose trash, and whose pins do not count."""

    collection: str | None
    trash: str | None
    job: str | None


class Originals:
    """Deletes originals; every call may run twice."""

    def __init__(self, clients: Clients, queue: TaskQueue) -> None:
        self._store, self._state, self._queue = clients.store, clients.state, queue
        self._catalog = Catalog(clients.store)
        self._segment_ids = SegmentIds(clients.store)
        self._documents, self._trash = Documents(clients.store), Trash(clients.store)

    def delete_unheld(
        self,
        digests: Sequence[str],
        *,
        leaving: str | None = None,
        emptying: str | None = None,
        job: str | None = None,
    ) -> dict[str, Kept]:
        """Delete the originals that nothing holds: neither a collection but `leaving`, nor a trash, nor an upload.

        Args:
            digests: The originals.
            leaving: A collection whose claims and rows do not count: it is giving the images up.
            emptying: A collection whose trash does not count.
            job: The upload whose pins do not count.

        Returns:
            Why each of the others is kept, by its digest.

        Raises:
            Locked: Another worker is deleting one of them.
            IndexLost: Redis has lost a collection; a rebuild was asked for.
        """
        kept: dict[str, Kept] = {}
        wanted = list(dict.fromkeys(digests))
        documents = self._documents_of(wanted) if wanted and self._documents.any() else []
        pages = [digest for digest in wanted if digest not in set(documents)]
        for originals in (pages, documents):  # a document is held by its page files, until these are deleted
            for start in range(0, len(originals), _PIECE):
                kept |= self._delete_piece(originals[start : start + _PIECE], _Leaving(leaving, emptying, job))
        return {digest: reason for digest, reason in kept.items() if digest in set(digests)}

    def _documents_of(self, digests: Sequence[str]) -> list[str]:
        """Return the documents among originals, and those that page files among them are of."""
        with ThreadPoolExecutor(_READS, thread_name_prefix="pages") as pool:
            files = list(pool.map(self._documents.page_file, digests))
            found = pool.map(lambda digest: digest if self._documents.get(digest) else None, digests)
            return list(dict.fromkeys([*(file.document for file in files if file), *filter(None, found)]))

    def ensure_known(self, *, leaving: str | None = None) -> None:
        """Make sure that Redis knows what all collections but `leaving` hold; unreadable ones are passed over.

        Raises:
            IndexLost: Redis has lost a collection; a rebuild was asked for.
        """
        for name in self._catalog.names():
            if name != leaving:
                try:
                    ensure_known(name, catalog=self._catalog, state=self._state, queue=self._queue)
                except Invalid as error:
                    _log.warning("%s: whatever it holds stays: %s", name, error)

    def _delete_piece(self, digests: Sequence[str], leaving: "_Leaving") -> dict[str, Kept]:
        for _ in range(_TRIES):
            kept = self._attempt(digests, leaving)
            if kept is not None:
                return kept
        raise Locked("originals could not be deleted in time: this worker is held up again and again")

    def _attempt(self, digests: Sequence[str], leaving: "_Leaving") -> dict[str, Kept] | None:
        """Mark, look, delete; returns why some are kept, or None if the marks ran out meanwhile."""
        pins, token = self._state.pins, secrets.token_hex(8)
        taken = pins.mark(digests, token, seconds=LEASE_S)
        try:
            if taken:
                raise Locked(f"another worker is deleting {layout.original_key(taken[0])!r}")
            # Pins before holders: an upload gives up its pin when a claim holds the image.
            kept = dict.fromkeys(pins.pinned(digests, but_by=leaving.job), Kept("an upload of it is on its way"))
            kept |= self._held([digest for digest in digests if digest not in kept], leaving)
            unheld = [digest for digest in digests if digest not in kept]
            renewed_at = time.monotonic()
            if unheld and not pins.renew(unheld, token, seconds=LEASE_S):
                return None
            if time.monotonic() - renewed_at > _FRESH_S:
                return None
            beside = [key(digest) for digest in unheld for key in _BESIDE]
            self._store.delete([*beside, *(layout.original_key(digest) for digest in unheld)])
        except StoreUnavailable:
            raise  # the store may yet do it: the marks stay until they run out
        except BaseException:
            pins.unmark(digests, token)
            raise
        pins.unmark(digests, token)
        return kept

    # Holders

    def _held(self, digests: Sequence[str], leaving: "_Leaving") -> dict[str, Kept]:
        """Return why originals are held, by digest."""
        if not digests:
            return {}
        if self._store.exists(layout.RESTORING):  # the manifests of what holds them come last
            return dict.fromkeys(digests, Kept("a backup is being restored, which may hold it", certain=False))
        self.ensure_known(leaving=leaving.collection)
        kept = dict(self._in_trash(digests, leaving))
        kept |= self._with_pages([digest for digest in digests if digest not in kept])
        for name in self._catalog.names():
            left = [digest for digest in digests if digest not in kept]
            if name != leaving.collection and left:
                kept |= self._held_by(name, left, leaving)
        for set_name in self._catalog.sets_without_manifest():
            left = [digest for digest in digests if digest not in kept]
            if layout.collection_of(set_name) != leaving.collection and left:
                kept |= self._held_by_set(layout.collection_of(set_name), set_name, [], left, leaving)
        return kept

    def _with_pages(self, digests: Sequence[str]) -> dict[str, Kept]:
        """Return the documents among originals of which other pages are stored."""
        if not digests or not self._documents.any():
            return {}
        documents = map(self._documents.get, digests)
        held = (document for document in documents if document and self._documents.has_page_file(document))
        return {document.digest: Kept("other pages of the document are held") for document in held}

    def _held_by(self, collection: str, digests: Sequence[str], leaving: "_Leaving") -> dict[str, Kept]:
        try:
            active = self._catalog.get(collection).name
        except NotFound:
            return {}
        except Invalid as error:
            return self._may_hold(collection, digests, f"the collection {collection!r} may hold it: {error}", leaving)
        return self._held_by_set(collection, active, self._unused(collection), digests, leaving)

    @staticmethod
    def _may_hold(collection: str, digests: Sequence[str], text: str, leaving: "_Leaving") -> dict[str, Kept]:
        """Return that a collection may hold originals; the log alone names another than the one that gives them up."""
        if collection not in {leaving.collection, leaving.trash}:
            _log.error("an original stays: %s", text)
            text = ELSEWHERE
        return dict.fromkeys(digests, Kept(text, certain=False))

    def _held_by_set(
        self, collection: str, active: str, unused: Sequence[str], digests: Sequence[str], leaving: "_Leaving"
    ) -> dict[str, Kept]:
        """Return why originals are held by the claims and rows of a set, and by the claims of others."""
        image_ids = {digest: layout.image_id(digest) for digest in digests}
        held: set[int] = set()
        for set_name in [active, *unused]:
            holders = self._state.claims.holders(set_name, list(image_ids.values()))
            held |= {image_id for image_id, holder in zip(image_ids.values(), holders, strict=True) if holder}
        found = self._segment_ids.find(active, [image_id for image_id in image_ids.values() if image_id not in held])
        for segment, ids in found.by_segment.items():
            held |= set(ids) - self._catalog.tombstones_of(active, segment)
        holds = Kept(f"the collection {collection!r} holds it")
        kept = {digest: holds for digest, image in image_ids.items() if image in held}
        for segment, reason in found.unreadable.items():
            text = f"the collection {collection!r} may hold it: its segment {segment} cannot be read: {reason}"
            kept = self._may_hold(collection, digests, text, leaving) | kept
        return kept

    def _unused(self, collection: str) -> list[str]:
        """Return the names of a collection's embedding sets that are not in use, readable or not."""
        keys = (item.key for item in self._store.list(layout.embedding_sets_prefix(collection)))
        return [key.removeprefix(layout.EMBEDDING_SETS).removesuffix(".json") for key in keys]

    def _in_trash(self, digests: Sequence[str], leaving: "_Leaving") -> Iterator[tuple[str, Kept]]:
        """Yield the originals that are in the trash of a collection that is not emptied, and in whose."""
        lost = map(layout.collection_of, self._catalog.sets_without_manifest())
        names = sorted({*self._catalog.names(), *lost} - {leaving.trash})
        few = _LOOKUPS // max(1, len(names))
        for name in names:
            try:
                for digest in self._trash.having(name, digests, few=few):
                    yield digest, Kept(f"it is in the trash of the collection {name!r}")
            except Invalid as error:
                text = f"the trash of the collection {name!r} may hold it: {error}"
                yield from self._may_hold(name, digests, text, leaving).items()
