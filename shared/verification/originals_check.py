"""Checks originals: that each image has one, that it is what its name says, and that somebody holds it."""

import hashlib
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shared.clients import Clients
from shared.errors import Invalid, ObjectNotFound
from shared.storage import layout
from shared.storage.documents import Documents
from shared.storage.original_files import LinkState, OriginalFiles
from shared.storage.trash import Trash
from shared.verification.compact_sets import OriginalSizes, digest_array, hexadecimal
from shared.verification.findings import Damage, Kind

_READS = 4  # at a time


@dataclass(frozen=True)
class HeldOriginals:
    """The originals that the images of a collection have; of size 0 where an image was imported without a picture."""

    collection: str
    sizes: OriginalSizes


class OriginalsCheck:
    """Checks the originals of all collections."""

    def __init__(self, clients: Clients) -> None:
        self._store, self._state = clients.store, clients.state
        self._documents, self._files = Documents(clients.store), OriginalFiles(clients.store)
        self._trash = Trash(clients.store)

    def check(self, held: list[HeldOriginals], damage: Damage, *, complete: bool, only: str | None) -> OriginalSizes:
        """Compare the listing of the store with what is held; returns the stored originals.

        Args:
            held: What each collection holds.
            damage: Takes the findings.
            complete: Whether `held` is all that there is: only then may an original be held by nobody.
            only: The collection whose originals are looked at; None: all.
        """
        stored = OriginalSizes()
        stored.add_each(
            (bytes.fromhex(digest), item.size)
            for item in self._store.list(layout.ORIGINALS)
            if layout.is_digest(digest := item.key.removeprefix(layout.ORIGINALS))
        )
        linked = digest_array(bytes.fromhex(digest) for digest in self._files.links.digests())
        linked = np.unique(linked[stored.sizes_of(linked) < 0])
        for collection in held:
            if only in {None, collection.collection}:
                had_one = collection.sizes.sizes > 0  # unlike what was imported without a picture
                digests, sizes = collection.sizes.digests[had_one], collection.sizes.sizes[had_one]
                found = stored.sizes_of(digests)
                missing = digests[(found < 0) & ~np.isin(digests, linked)]
                damage.add("original-missing", collection.collection, hexadecimal(missing))
                wrong = digests[(found >= 0) & (found != sizes)]
                damage.add("original-damaged", collection.collection, hexadecimal(wrong))
        trash = [(name, digest) for name in self._trash.collections() for digest in self._trashed(name, damage)]
        complete = complete and not any(kind == "trash-unreadable" for kind, _ in damage.found)
        trashed = digest_array(bytes.fromhex(digest) for _, digest in trash)
        there = (stored.sizes_of(trashed) >= 0) | np.isin(trashed, linked)
        lacking: defaultdict[str, list[str]] = defaultdict(list)
        for (name, digest), is_there in zip(trash, there.tolist(), strict=True):
            if only in {None, name} and not is_there:
                lacking[name].append(digest)
        for name, digests_lacking in lacking.items():
            pictureless = {
                entry.digest for entry in self._trash.entries(name, digests_lacking) if not entry.had_picture
            }
            damage.add("trash-original-missing", name, set(digests_lacking) - pictureless)
        if complete and only is None:
            unheld = np.concatenate([stored.digests, linked])
            unheld = unheld[~np.isin(unheld, trashed)]
            for collection in held:
                unheld = unheld[collection.sizes.sizes_of(unheld) < 0]
            digests_unheld = [digest for digest in hexadecimal(unheld) if not self._has_pages(digest)]
            damage.add("original-unheld", None, set(digests_unheld) - self._state.pins.pinned(digests_unheld))
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
        stored: OriginalSizes,
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
            digests = collection.sizes.digests
            digests = digests[stored.sizes_of(digests) >= 0]
            if sample is not None and sample < len(digests):
                digests = digests[random.choice(len(digests), sample, replace=False)]
            chosen.update(map(bytes.fromhex, hexadecimal(digests)))
        ordered = sorted(chosen)
        with ThreadPoolExecutor(_READS, thread_name_prefix="originals") as pool:
            for digest, whole in zip(ordered, pool.map(self._is_whole, ordered), strict=True):
                for collection in wanted if not whole else ():
                    if digest in collection.sizes:
                        damage.add("original-damaged", collection.collection, [digest.hex()])
                on_read()
        return len(ordered)

    def _look_at_links(self, wanted: list[HeldOriginals], stored: OriginalSizes, damage: Damage, *, read: bool) -> None:
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
