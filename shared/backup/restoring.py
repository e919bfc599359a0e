"""Restores a backup into an empty system, or in place of what a system holds.

The object `restoring.json` is written before anything else, and deleted after the indexes are rebuilt. While it is
there, a restore of the same snapshot goes on from where it was. Manifests are written last: a collection is there once
all of it is.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared.backup.contents import of_installation
from shared.backup.copying import OnProgress
from shared.backup.parallel import each
from shared.backup.repository import Damaged, Repository, spool
from shared.backup.snapshot import Entry, Snapshot
from shared.clients import Clients
from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.index.generations import collection_prefix
from shared.state import Change
from shared.storage import access_layout, layout
from shared.storage.catalog import EmbeddingSet, read_manifest
from shared.versioned import StoredKind

_log = logging.getLogger(__name__)

_KIND = StoredKind("mark of a restore")
_THREADS = 8
_OF_PEOPLE = frozenset({access_layout.ACCESS, access_layout.AUDIT})  # what a system has as soon as somebody can log in

Condition = Literal["empty", "begun", "occupied"]
"""What is in a system before a restore: nothing, what an earlier restore of the same snapshot wrote, anything else."""


@dataclass(frozen=True)
class Restored:
    """What was restored: collections by name, how many objects were copied, and which are damaged in the backup.

    `linked` originals were not in the backup: they are read where their owner has them.
    """

    collections: tuple[str, ...]
    copied: int
    damaged: tuple[str, ...]
    linked: int = 0


@dataclass(frozen=True)
class _Mark:
    """The snapshot that is being restored, and whether what was there is still being deleted."""

    snapshot: str
    phase: str


def _collection_of(manifest: Entry) -> str:
    return manifest.key.removeprefix(layout.COLLECTIONS).removesuffix(".json")


def _read_mark(values: Mapping[str, Any]) -> _Mark:
    return _Mark(str(values["snapshot"]), str(values["phase"]))


class Restorer:
    """Restores a snapshot."""

    def __init__(self, clients: Clients, repository: Repository, name: str, snapshot: Snapshot) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog
        self._repository, self._name, self._snapshot = repository, name, snapshot
        strange = [entry.key for entry in snapshot.objects if of_installation(entry.key)]
        if strange:
            raise Invalid(f"the snapshot {name} is forged: it holds {strange[0]!r}")

    def condition(self) -> Condition:
        """Return what is in the system now."""
        mark = self._mark()
        if mark is not None:
            goes_on = mark.snapshot == self._name and (mark.phase == "clearing" or not self._other_collections())
            return "begun" if goes_on else "occupied"
        tops = [top for top in self._store.top_level() if not of_installation(top) and top not in _OF_PEOPLE]
        # A server may list folders that nothing is in any more.
        return "occupied" if any(True for top in tops for _ in self._store.list(top)) else "empty"

    def _other_collections(self) -> list[str]:
        """Return the collections that came into being under names of the snapshot, and are not its own."""
        found = []
        for entry in self._manifests():
            try:
                data = self._store.get(entry.key)
            except ObjectNotFound:
                continue
            if hashlib.sha256(data).hexdigest() != entry.digest:
                found.append(_collection_of(entry))
        return found

    def _manifests(self) -> list[Entry]:
        return [entry for entry in self._snapshot.objects if entry.key.startswith(layout.COLLECTIONS)]

    def clear(self) -> None:
        """Delete all that the system holds. The caller has made sure that the backup is whole.

        A run that dies here leaves a system that only a restore of the same snapshot goes on with.
        """
        self._put_mark("clearing")
        for name in self._catalog.stored_names():
            try:
                embedding_sets = [self._catalog.get(name), *self._catalog.unused_embedding_sets(name)]
            except (Invalid, NotFound) as error:
                _log.error("the buckets of %s are not removed: %s", name, error)
                embedding_sets = []
            # Before the manifest, by which alone a run after this one knows what there is to forget.
            for embedding_set in embedding_sets:
                self._forget(embedding_set)
            self._store.delete([layout.manifest_key(name)])
            for embedding_set in embedding_sets:
                self._state.changes.announce(Change(embedding_set.name, "dropped"))
            self._state.changes.announce(Change(name, "collection"))
        # Sets whose manifest is lost or unreadable too: a claim that stayed would make an image count as added.
        for set_name in self._store.folders(layout.VECTORS):
            self._state.forget(set_name)
        for top in sorted(self._store.top_level()):
            if not of_installation(top):
                self._store.delete([item.key for item in self._store.list(top)])

    def restore(self, *, without_damaged: bool = False, on_progress: OnProgress | None = None) -> Restored:
        """Copy all objects, the manifests last. The caller has looked at `condition`, and rebuilds the indexes then.

        Args:
            without_damaged: Whether to leave out what is damaged in the backup, instead of restoring no collection.
            on_progress: Takes how many objects are done, and how many there are.

        Raises:
            Damaged: Blobs are missing or damaged; no collection was restored.
            Invalid: A collection came into being meanwhile.
        """
        mark = self._mark()
        if mark is not None and mark.phase == "clearing":
            self.clear()
        self._put_mark("copying")
        manifests, damaged = self._read_manifests()
        others = [entry for entry in self._snapshot.objects if not entry.key.startswith(layout.COLLECTIONS)]
        if any(entry.key.startswith(access_layout.ACCESS) for entry in others):  # the accounts of then, and no others
            self._store.delete([item.key for item in self._store.list(access_layout.ACCESS)])
        copied, faults = self._copy_missing(others, on_progress)
        damaged += faults
        self._state.access_marks.touch()
        if damaged and not without_damaged:
            named = "\n  ".join([*damaged[:20], *(["…"] if len(damaged) > 20 else [])])
            raise Damaged(
                f"{len(damaged)} objects are missing or damaged in the backup, and no collection was restored. Restore "
                f"an earlier snapshot, or this one --without-damaged.\n  {named}"
            )
        collections = self._put_manifests(manifests)
        shown = tuple(name for name in collections if not layout.is_regions(name))  # a rebuild restores both
        return Restored(shown, copied, tuple(damaged), self._snapshot.header.linked)

    def finish(self) -> None:
        """Note that all is restored, the indexes too."""
        self._store.delete([layout.RESTORING])

    def _copy_missing(self, entries: Iterable[Entry], on_progress: OnProgress | None) -> tuple[int, list[str]]:
        """Copy the objects that are not there; returns how many those were, and what is wrong with others.

        What was sent before the restore began may yet delete an original, so all is listed again.
        """
        wanted, copied = list(entries), 0
        while True:
            there = {item.key: item.size for item in self._store.list("")}
            missing = [entry for entry in wanted if there.get(entry.key) != entry.size]
            damaged = self._copy(missing, on_progress)
            copied += len(missing) - len(damaged)
            if len(damaged) == len(missing):
                return copied, damaged

    def _copy(self, entries: Sequence[Entry], on_progress: OnProgress | None) -> list[str]:
        """Copy objects that are checked against their digests first; returns what is wrong with the others."""
        return [fault for fault in each(self._put, entries, threads=_THREADS, on_progress=on_progress) if fault]

    def _put(self, entry: Entry) -> str:
        """Copy an object; returns what is wrong with its blob, "" if nothing is."""
        try:
            spooled = spool(self._repository.read_blob(entry))
        except Damaged as error:
            return str(error)
        media_type = "application/json" if entry.key.endswith(".json") else "application/octet-stream"
        with spooled.file:
            self._store.upload(entry.key, spooled.file, spooled.size, media_type)
        return ""

    def _read_manifests(self) -> tuple[dict[str, bytes], list[str]]:
        """Return the manifests in the backup by their collections, and what is wrong with others."""
        manifests: dict[str, bytes] = {}
        damaged: list[str] = []
        for entry in self._manifests():
            try:
                manifests[_collection_of(entry)] = b"".join(self._repository.read_blob(entry))
            except Damaged as error:
                damaged.append(str(error))
        return manifests, damaged

    def _put_manifests(self, manifests: Mapping[str, bytes]) -> list[str]:
        others = self._other_collections()
        if others:
            raise Invalid(
                f"a collection {others[0]!r} came into being while the backup was restored: stop what adds images, and "
                "restore again with --replace"
            )
        names = []
        for name, data in manifests.items():
            key = layout.manifest_key(name)
            try:
                self._forget(read_manifest(key, data))
                names.append(name)
            except Invalid as error:
                _log.error("the collection %s was damaged when it was backed up: %s", name, error)
            self._store.put(key, data, "application/json")
        return names

    def _forget(self, embedding_set: EmbeddingSet) -> None:
        """Delete what Redis knows of an embedding set: it may be of another time."""
        self._state.forget(embedding_set.name)
        self._state.buckets.drop(collection_prefix(embedding_set))

    def _mark(self) -> _Mark | None:
        """Return what the mark of a restore says; None if none is under way."""
        try:
            mark = self._store.get(layout.RESTORING)
        except ObjectNotFound:
            return None
        return _KIND.loads(mark, _read_mark, place=layout.RESTORING)

    def _put_mark(self, phase: Literal["clearing", "copying"]) -> None:
        value = {"snapshot": self._name, "phase": phase}
        self._store.put(layout.RESTORING, _KIND.dumps(value), "application/json")
