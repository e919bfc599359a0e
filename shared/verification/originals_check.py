"""Checks originals: that each image has one, that it is what its name says, and that somebody holds it."""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shared.clients import Clients
from shared.errors import Invalid, ObjectNotFound
from shared.storage import layout
from shared.storage.documents import Documents
from shared.storage.original_files import LinkState, OriginalFiles
from shared.storage.trash import Trash
from shared.verification.findings import Damage, Kind

_READS = 4  # at a time


@dataclass(frozen=True)
class HeldOriginals:
    """The originals that the images of a collection have: digests and sizes in bytes."""

    collection: str
    sizes: Mapping[bytes, int]


class OriginalsCheck:
    """Checks the originals of all collections."""

    def __init__(self, clients: Clients) -> None:
        self._store, self._state = clients.store, clients.state
        self._documents, self._files = Documents(clients.store), OriginalFiles(clients.store)
        self._trash = Trash(clients.store)

    def check(self, held: list[HeldOriginals], damage: Damage, *, complete: bool, only: str | None) -> dict[bytes, int]:
        """Compare the listing of the store with what is held; returns the sizes of the stored originals by digest.

        Args:
            held: What each collection holds.
            damage: Takes the findings.
            complete: Whether `held` is all that there is: only then may an original be held by nobody.
            only: The collection whose originals are looked at; None: all.
        """
        stored = {
            bytes.fromhex(digest): item.size
            for item in self._store.list(layout.ORIGINALS)
            if layout.is_digest(digest := item.key.removeprefix(layout.ORIGINALS))
        }
        linked = {bytes.fromhex(digest) for digest in self._files.links.digests()} - stored.keys()
        for collection in held:
            if only in {None, collection.collection}:
                missing = {digest for digest in collection.sizes if digest not in stored and digest not in linked}
                damage.add("original-missing", collection.collection, (digest.hex() for digest in missing))
                present = collection.sizes.keys() & stored.keys()
                wrong = {digest for digest in present if stored[digest] != collection.sizes[digest]}
                damage.add("original-damaged", collection.collection, (digest.hex() for digest in wrong))
        trash = [(name, digest) for name in self._trash.collections() for digest in self._trashed(name, damage)]
        complete = complete and not any(kind == "trash-unreadable" for kind, _ in damage.found)
        for name, digest in trash:
            if only in {None, name} and (found := bytes.fromhex(digest)) not in stored and found not in linked:
                damage.add("trash-original-missing", name, [digest])
        if complete and only is None:
            unheld = (stored.keys() | linked) - {bytes.fromhex(digest) for _, digest in trash}
            unheld = unheld.difference(*(collection.sizes.keys() for collection in held))
            digests = [digest.hex() for digest in unheld if not self._has_pages(digest.hex())]
            damage.add("original-unheld", None, set(digests) - self._state.pins.pinned(digests))
        return stored

    def _trashed(self, collection: str, damage: Damage) -> list[str]:
        """Return the digests of the images in the trash of a collection; none if it cannot be read."""
        try:
            return self._trash.digests(collection)
        except Invalid as error:
            damage.add("trash-unreadable", collection, [error])
            return []

    def _has_pages(self, digest: str) -> bool:
        """Return whether an original is a document of which pages are stored, and held in its place."""
        document = self._documents.get(digest)
        return document is not None and self._documents.has_page_file(document)

    def read(
        self,
        held: list[HeldOriginals],
        stored: Mapping[bytes, int],
        damage: Damage,
        *,
        sample: int | None,
        only: str | None,
        on_read: Callable[[], None] = lambda: None,
    ) -> int:
        """Read originals, each once, and compare digests: a sample of each collection, or all; returns how many."""
        wanted = [collection for collection in held if only in {None, collection.collection}]
        self._look_at_links(wanted, stored, damage, read=sample is None)
        chosen: set[bytes] = set()
        random = np.random.default_rng()
        for collection in wanted:
            digests = sorted(digest for digest in collection.sizes if digest in stored)
            if sample is not None and sample < len(digests):
                digests = [digests[place] for place in random.choice(len(digests), sample, replace=False).tolist()]
            chosen.update(digests)
        ordered = sorted(chosen)
        with ThreadPoolExecutor(_READS, thread_name_prefix="originals") as pool:
            for digest, whole in zip(ordered, pool.map(self._is_whole, ordered), strict=True):
                for collection in wanted if not whole else ():
                    if digest in collection.sizes:
                        damage.add("original-damaged", collection.collection, [digest.hex()])
                on_read()
        return len(ordered)

    def _look_at_links(
        self, wanted: list[HeldOriginals], stored: Mapping[bytes, int], damage: Damage, *, read: bool
    ) -> None:
        """Look at the files of all linked originals, and read those that were touched, or all."""
        digests = [digest for digest in self._files.links.digests() if bytes.fromhex(digest) not in stored]

        def state(digest: str) -> LinkState:
            link = self._files.links.get(digest)
            if link is None:  # deleted meanwhile
                return "whole"
            return self._files.state(link, link.files[0], read=read) if link.files else "missing"

        with ThreadPoolExecutor(_READS, thread_name_prefix="links") as pool:
            for digest, found in zip(digests, pool.map(state, digests), strict=True):
                for collection in wanted if found != "whole" else ():
                    if bytes.fromhex(digest) in collection.sizes:
                        kind: Kind = "link-changed" if found == "changed" else "link-missing"
                        damage.add(kind, collection.collection, [digest])

    def _is_whole(self, digest: bytes) -> bool:
        try:
            found = hashlib.sha256()
            for part in self._store.stream(layout.original_key(digest.hex())):
                found.update(part)
        except ObjectNotFound:  # deleted meanwhile, with its image
            return True
        return found.digest() == digest
