"""What belongs to a backup of a running system: objects that together are a state which the system was in, or may be.

Objects come and go while they are listed. These rules make the whole of what is taken hold together:

- Originals are listed and copied after the segments and before the tombstones. So each row that no tombstone hides has
  its original: that was stored before the segment, and is deleted after the tombstone is written.
- A merge deletes its inputs before it removes their tombstones. If all segments that were listed before the tombstones
  are still there after them, no tombstone was missed; else all is listed again. The lock on the segments keeps merges
  away meanwhile. It is not needed for the result, so a backup works without Redis too.
- Merges in progress are listed after the segments and before the tombstones. The maintenance worker finishes them.
- The trash is listed before the segments and after the tombstones: an image that is deleted or restored meanwhile is in
  one of the two, or in the segments. An image that is deleted, added again and so leaves the trash, all between two
  listings, is noticed by its id: then all is listed again.
- A collection whose manifest changed meanwhile is listed again. Of its embedding sets, the one in use is taken.
- A change of records that is gone before it could be copied was merged: then all is listed again.
- While a collection is being renamed, nothing is listed: it is stored under two names.
- The generation that `current.json` names must be among the generations that were copied.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager, suppress

from shared.backup.copying import ObjectCopier, OnProgress, named_digest, without_halves
from shared.backup.snapshot import Entry
from shared.clients import Clients
from shared.errors import Invalid, Locked, ObjectNotFound, Unavailable
from shared.state.locks import segments_lock
from shared.storage import evaluation_layout, layout
from shared.storage.catalog import read_manifest
from shared.storage.documents import Documents
from shared.storage.object_store import StoredObject
from shared.storage.segments import ids_of, unpack
from shared.storage.tombstones import Tombstones
from shared.storage.trash import TrashEntry, dumps_batch, loads_batch

_log = logging.getLogger(__name__)

_ORIGINALS = layout.original_key("")
_OF_SETS = ("vectors/", "tombstones/", "merges/", "indexes/")
# Made again when they are asked for.
_LEFT_OUT = (layout.DERIVATIVES, layout.THUMBNAILS, layout.FEATURES, layout.MAPS)
_PASSING = (evaluation_layout.KEPT_QUERIES,)  # what is kept for some days only
# What is begun anew after a restore.
_UNDER_WAY = (
    evaluation_layout.EVALUATING,
    evaluation_layout.DUPLICATING,
    layout.EMBEDDING_SETS,
    layout.RENAMING,
)
_LITTLE = 500  # objects that may be copied while merges wait
_ROUNDS = 5
_ATTEMPTS = 30
_PATIENCE_S = 900.0  # for the locks of all collections
_TRY_S = 5.0
_RENAME_POLL_S = 0.5

Listing = dict[str, StoredObject]


def of_installation(key: str) -> bool:
    """Return whether an object belongs to the very system that it is in: its id, what readiness and a restore write."""
    return key.startswith(".") or key in {layout.SYSTEM, layout.RESTORING}


class _Changed(Exception):
    """The store changed in a way that makes what was listed no state of the system."""


class Contents:
    """Copies what belongs to a backup."""

    def __init__(self, clients: Clients, copier: ObjectCopier, on_progress: OnProgress | None = None) -> None:
        self._store, self._locks = clients.store, clients.state.locks
        self._documents, self._tombstones = Documents(clients.store), Tombstones(clients.store)
        self._copier, self._on_progress = copier, on_progress

    def copy(self) -> dict[str, Entry]:
        """Copy a state of the system; returns its objects by their keys.

        Raises:
            Unavailable: The store does not answer, another worker holds a collection's lock for very long, or a rename
                does not end.
        """
        self._copy_most()
        for _ in range(_ATTEMPTS):
            self._await_renames()
            with self._without_merges(self._collections()):
                try:
                    if self._list(layout.RENAMING):  # begun before the locks were held
                        raise _Changed("a collection is being renamed")
                    return self._copy_state()
                except _Changed as change:
                    _log.info("the objects are listed again: %s", change)
        raise Unavailable("the collections change faster than they can be listed; try again when less goes on")

    def _copy_most(self) -> None:
        """Copy most of what there is, so that little is left to do while merges wait."""
        for _ in range(_ROUNDS):
            before = self._copier.new_blobs
            in_use = self._in_use(self._list(layout.COLLECTIONS))
            items: list[StoredObject] = []
            for root in self._roots():
                items += self._list_sets(root, in_use).values() if root in _OF_SETS else self._store.list(root)
            self._copier.copy(items, self._on_progress)
            if self._copier.new_blobs - before <= _LITTLE:
                return

    def _copy_state(self) -> dict[str, Entry]:
        copier = self._copier
        binned = self._list(layout.TRASH)
        manifests = self._list(layout.COLLECTIONS)
        entries = copier.copy(manifests.values())
        in_use = self._in_use(manifests)
        deleted_before = self._list_sets("tombstones/", in_use).keys()
        segments = self._list_sets("vectors/", in_use)
        merges = self._list_sets("merges/", in_use)
        originals = copier.copy(self._store.list(_ORIGINALS), self._on_progress)
        originals |= copier.copy(self._store.list(layout.LINKS))
        entries |= originals
        entries |= copier.copy([*segments.values(), *merges.values()])
        tombstones = self._list_sets("tombstones/", in_use)
        entries |= copier.copy(tombstones.values())
        entries |= copier.copy(self._list_sets("indexes/", in_use).values())
        entries |= self._copy_trash(binned | self._list(layout.TRASH), originals)
        entries |= self._copy_others()
        if self._list(layout.COLLECTIONS) != manifests:
            raise _Changed("a collection's manifest has changed")
        later = self._list_sets("vectors/", in_use).keys()
        gone = segments.keys() - later
        lost = {*manifests, *segments, *merges} - entries.keys()
        if gone or lost:
            raise _Changed(f"objects were deleted: {sorted(gone | lost)[:3]}")
        self._check_readded(later - segments.keys(), tombstones.keys() - deleted_before)
        self._check_generations(entries)
        return entries

    def _check_readded(self, segments: Set[str], tombstones: Set[str]) -> None:
        """Make sure that no image was deleted meanwhile, and then added again by a segment that came too late."""
        deleted = self._rows_of(tombstones) if segments else set()
        for key in segments if deleted else ():
            set_name = key.split("/")[1]
            try:
                ids = ids_of(unpack(self._store.get(key))).tolist()
            except ObjectNotFound:
                raise _Changed(f"{key} was deleted") from None
            except Invalid as error:
                _log.error("the segment %s is damaged: %s", key, error)
                continue
            if any((set_name, image_id) in deleted for image_id in ids):
                raise _Changed(f"images of {set_name} were deleted and added again")

    def _rows_of(self, tombstones: Set[str]) -> set[tuple[str, int]]:
        """Return embedding set and image of the rows that tombstones say are deleted, by their keys."""
        deleted: set[tuple[str, int]] = set()
        for key in tombstones:
            try:
                found = self._tombstones.listed([key])
            except ObjectNotFound:
                raise _Changed(f"{key} was removed") from None
            except Invalid as error:
                _log.error("%s", error)
                continue
            deleted |= {(key.split("/")[1], image_id) for ids in found.values() for image_id in ids}
        return deleted

    def _copy_trash(self, binned: Listing, originals: Mapping[str, Entry]) -> dict[str, Entry]:
        """Copy entries of the trash, with originals that came later; those whose original is gone are left out."""
        needed = {key: layout.original_key(place[1]) for key in binned if (place := layout.trash_entry_of(key))}
        copied = self._copier.copy(item for key, item in binned.items() if layout.trash_batch_of(key))
        batches = {key: self._batch(key, entry) for key, entry in copied.items()}
        wanted = {*needed.values(), *(layout.original_key(one.digest) for batch in batches.values() for one in batch)}
        linked = {original for key in originals if (original := _linked_original(key))}
        late = {original for original in wanted if original not in originals and original not in linked}
        items = [item for original in sorted(late) for item in self._store.list(original) if item.key == original]
        found = self._copier.copy(items)
        files = [self._documents.page_file(key.removeprefix(_ORIGINALS)) for key in found]
        documents = {layout.original_key(file.document) for file in files if file} - originals.keys()
        found |= self._copier.copy(item for key in documents for item in self._store.list(key) if item.key == key)
        there = originals.keys() | found.keys() | linked
        whole = [binned[key] for key, original in needed.items() if original in there]
        for key, batch in batches.items():
            left = [one for one in batch if layout.original_key(one.digest) in there]
            if len(left) == len(batch):
                found[key] = copied[key]
            elif left:
                found[key] = self._copier.write(key, dumps_batch(left))
        return found | self._copier.copy(whole)

    def _batch(self, key: str, entry: Entry) -> list[TrashEntry]:
        """Return the entries of a batch of the trash that was copied; none of one that cannot be read."""
        try:
            return loads_batch(self._copier.bytes_of(entry), place=key)
        except Invalid as error:
            _log.error("%s", error)
            self._copier.damaged.add(key)
            return []

    def _copy_others(self) -> dict[str, Entry]:
        """Copy what belongs to no embedding set: evaluations, query sets, images that were set aside."""
        entries: dict[str, Entry] = {}
        special = {*_OF_SETS, _ORIGINALS, layout.LINKS, layout.TRASH, layout.COLLECTIONS, layout.RECORDS}
        # Query sets before the queries that they name; a set that goes meanwhile is left out.
        roots = sorted(self._roots() - special, key=lambda root: (root != evaluation_layout.QUERY_SETS, root))
        for root in roots:
            entries |= self._copier.copy(self._store.list(root))
        # A merge of records is written before what it is made of is deleted, and listed behind it.
        records = self._list(layout.RECORDS)
        copied = self._copier.copy(records.values())
        if lost := records.keys() - copied.keys():
            raise _Changed(f"records were merged: {sorted(lost)[:3]}")
        entries |= copied
        left = self._list(evaluation_layout.QUERY_SETS).keys()
        return {
            key: entry
            for key, entry in without_halves(entries).items()
            if not key.startswith(evaluation_layout.QUERY_SETS) or key in left
        }

    def _check_generations(self, entries: Mapping[str, Entry]) -> None:
        """Make sure that the generation in use of every embedding set is there."""
        for key in [key for key in entries if key.startswith("indexes/") and key.endswith("/current.json")]:
            set_name = key.split("/")[1]
            try:
                generation = int(json.loads(self._copier.bytes_of(entries[key]))["generation"])
            except (ValueError, KeyError, TypeError):  # damaged: a rebuild makes a new one
                continue
            if layout.generation_key(set_name, generation) not in entries:
                raise _Changed(f"{set_name} has another index")

    # Listings

    def _roots(self) -> set[str]:
        """Return the top-level folders and keys that belong to a backup: all that are not of a moment."""
        found = self._store.top_level()
        return {root for root in found if not of_installation(root) and root not in _UNDER_WAY + _LEFT_OUT + _PASSING}

    def _list(self, prefix: str) -> Listing:
        return {item.key: item for item in self._store.list(prefix)}

    def _list_sets(self, root: str, in_use: Callable[[str], bool]) -> Listing:
        """Return what a root holds of the embedding sets in use."""
        return {item.key: item for item in self._store.list(root) if in_use(item.key.split("/")[1])}

    def _collections(self) -> list[str]:
        keys = (item.key for item in self._store.list(layout.COLLECTIONS))
        return sorted(key.removeprefix(layout.COLLECTIONS).removesuffix(".json") for key in keys)

    def _in_use(self, manifests: Iterable[str]) -> Callable[[str], bool]:
        """Return a function that says whether an embedding set belongs to a backup, by its name.

        It does if its collection uses it; or if that cannot be told, since the manifest is lost or damaged.
        """
        used: dict[str, str] = {}  # embedding sets by collection
        for key in manifests:
            name = key.removeprefix(layout.COLLECTIONS).removesuffix(".json")
            try:
                used[name] = read_manifest(key, self._store.get(key)).name
            except ObjectNotFound:
                continue
            except Invalid as error:
                _log.error("all embedding sets of %s are kept: %s", name, error)
                self._copier.damaged.add(key)
        return lambda set_name: used.get(layout.collection_of(set_name), set_name) == set_name

    def _await_renames(self) -> None:
        """Wait until no collection is stored under two names; a rename whose worker died goes on by itself."""
        until = time.monotonic() + _PATIENCE_S
        while under_way := self._list(layout.RENAMING):
            if time.monotonic() > until:
                raise Unavailable(f"a rename has not ended: {sorted(under_way)[0]}; is a maintenance worker running?")
            time.sleep(_RENAME_POLL_S)

    @contextmanager
    def _without_merges(self, collections: Iterable[str]) -> Iterator[None]:
        """Hold the locks on the segments of collections over the block; none where Redis does not answer."""
        held = ExitStack()
        try:
            self._lock(sorted(collections), held)
        except Locked:
            raise
        except Unavailable as error:
            _log.warning("the backup goes on without locks: %s", error)
        try:
            yield
        finally:
            with suppress(Unavailable):  # a lock that is not given back runs out
                held.close()

    def _lock(self, collections: list[str], held: ExitStack) -> None:
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with ExitStack() as taken:
                    for collection in collections:
                        taken.enter_context(self._locks.hold(segments_lock(collection), wait_s=_TRY_S))
                    held.enter_context(taken.pop_all())
                return
            except Locked:
                if time.monotonic() > until:
                    raise


def _linked_original(key: str) -> str | None:
    """Return the key that a copy of a linked original would have, by that of its link; None for any other key."""
    return layout.original_key(layout.original_of(key)) if key.startswith(layout.LINKS) else None


def count_linked(entries: Mapping[str, object]) -> int:
    """Return how many originals are linked, so that objects with these keys do not hold them."""
    return sum(original is not None and original not in entries for original in map(_linked_original, entries))


def count_originals(entries: Iterable[str]) -> int:
    """Return how many of the objects with these keys are originals."""
    return sum(key.startswith(_ORIGINALS) and named_digest(key) is not None for key in entries)
