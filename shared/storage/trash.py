"""The trash of each collection: images that were deleted from it, and can be restored for a while.

A single image has an object of its own. Images that are deleted together have one object, a batch, which lists their
entries. A batch is never changed: what is left of it is written anew, under another key. Of several entries of an image
the latest counts.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from shared.errors import Invalid, NotFound, ObjectNotFound, StoreUnavailable
from shared.storage import layout
from shared.storage.documents import DocumentPage
from shared.storage.object_store import ObjectStore
from shared.storage.segments import Entry
from shared.versioned import StoredKind

_log = logging.getLogger(__name__)

_ENTRY = StoredKind("trash entry")
_BATCH = StoredKind("batch of trash entries")
_JSON = "application/json"
_THREADS = 8
_BATCH_ENTRIES = 512
_KEPT = 64  # batches in memory
_LISTINGS = 5  # while batches are rewritten

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class TrashEntry:
    """An image in the trash: what its collection knew of it, and when it was deleted, in seconds since 1970.

    Of an image whose segment could not be read, only the digest is known: the rest is empty or 0.
    """

    digest: str
    name: str
    label: str | None
    size: int
    media_type: str
    width: int
    height: int
    added: float
    deleted: float
    flags: Sequence[str] = ()
    document: DocumentPage | None = None

    @property
    def id(self) -> int:
        """The image's id."""
        return layout.image_id(self.digest)

    @property
    def had_picture(self) -> bool:
        """Whether the store had the image's picture, as far as is known: an import of embeddings may bring none."""
        return self.size > 0 or not self.media_type

    @classmethod
    def of(cls, entry: Entry, deleted: float) -> "TrashEntry":
        """Return the entry of an image that is deleted now."""
        known = {name: value for name, value in vars(entry).items() if name != "id"}
        return cls(**known, deleted=deleted)

    @classmethod
    def unknown(cls, digest: str, deleted: float) -> "TrashEntry":
        """Return the entry of an image of which only the digest is known."""
        return cls(digest, "", None, 0, "", 0, 0, deleted, deleted)


class Trash:
    """Reads and writes the entries in the object store.

    What looks for images by their digests raises `Invalid` if a batch cannot be read: it may hold any of them.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._kept: dict[str, Mapping[str, TrashEntry]] = {}  # batches by key

    def put(self, collection: str, entries: Sequence[TrashEntry], *, origin: str = "") -> None:
        """Add images to a collection's trash, or write their entries anew.

        `origin` says where they were: what is put twice from one place is there once.
        """
        if len(entries) == 1:
            key = layout.trash_key(collection, entries[0].digest)
            self._store.put(key, _ENTRY.dumps(_values_of(entries[0])), _JSON)
            return
        batches = [entries[start : start + _BATCH_ENTRIES] for start in range(0, len(entries), _BATCH_ENTRIES)]
        _each(lambda batch: self._put_batch(collection, batch, origin), batches)

    def _put_batch(self, collection: str, entries: Sequence[TrashEntry], origin: str) -> None:
        name = layout.digest_of("/".join([origin, *(entry.digest for entry in entries)]).encode())
        self._store.put(layout.trash_batch_key(collection, name), dumps_batch(entries), _JSON)

    def digests(self, collection: str) -> list[str]:
        """Return the digests of the images in a collection's trash, the latest deleted first."""
        items = [(item.key, item.modified) for item in self._store.list(layout.trash_prefix(collection))]
        found = {place[1]: modified for key, modified in items if (place := layout.trash_entry_of(key))}
        for digest, entry in self._batched(collection).items():
            found[digest] = max(entry.deleted, found.get(digest, 0.0))
        return sorted(found, key=lambda digest: (-found[digest], digest))

    def collections(self) -> list[str]:
        """Return the names of the collections that have something in their trash, whether they are there or not."""
        found = set()
        for item in self._store.list(layout.TRASH):
            place = layout.trash_entry_of(item.key)
            found.add(place[0] if place else layout.trash_batch_of(item.key))
        return sorted(name for name in found if name)

    def entries(self, collection: str, digests: Iterable[str]) -> Iterator[TrashEntry]:
        """Yield the entries of images, in order; those that are gone, or cannot be read, are left out."""
        batched = self._batched(collection)

        def read(digest: str) -> TrashEntry | None:
            try:
                return _later(batched.get(digest), self._read(collection, digest))
            except Invalid as error:
                _log.error("an image in the trash of %s is left out: %s", collection, error)
                return None

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="trash") as pool:
            for entry in pool.map(read, digests):
                if entry is not None:
                    yield entry

    def of_image(self, collection: str, image_id: int) -> list[str]:
        """Return the digests of the entries of the images with an id: one, unless two share the id."""
        prefix = layout.trash_prefix(collection) + layout.originals_prefix(image_id).rpartition("/")[2]
        single = {place[1] for item in self._store.list(prefix) if (place := layout.trash_entry_of(item.key))}
        return sorted(
            digest for digest in single | self._batched(collection).keys() if layout.image_id(digest) == image_id
        )

    def get(self, collection: str, image_id: int) -> TrashEntry:
        """Return the entry of an image.

        Raises:
            NotFound: It is not in the collection's trash.
            Invalid: The entry cannot be read.
        """
        for digest in self.of_image(collection, image_id):
            entry = _later(self._batched(collection).get(digest), self._read(collection, digest))
            if entry is not None:
                return entry
        raise NotFound(f"the trash of the collection {collection!r} has no image {image_id}")

    def having(self, collection: str, digests: Sequence[str], *, few: int) -> set[str]:
        """Return which of some images are in a collection's trash; up to `few` of them are asked for one by one."""
        batched = self._batched(collection).keys()
        left = [digest for digest in digests if digest not in batched]
        if len(left) <= few:
            single = {digest for digest in left if self._store.exists(layout.trash_key(collection, digest))}
        else:
            places = (layout.trash_entry_of(item.key) for item in self._store.list(layout.trash_prefix(collection)))
            single = {place[1] for place in places if place} & set(left)
        return single | (set(digests) & batched)

    def remove(self, collection: str, digests: Iterable[str]) -> None:
        """Remove entries; those that are not there are passed over. The caller holds the lock on the segments."""
        unwanted = set(digests)
        gone = [layout.trash_key(collection, digest) for digest in unwanted]
        for key in self._batches(collection) if unwanted else ():
            try:
                entries = self._batch(key)
            except ObjectNotFound:  # of an attempt that was thought dead
                continue
            left = [entry for digest, entry in entries.items() if digest not in unwanted]
            if len(left) < len(entries):
                if left:
                    self._put_batch(collection, left, key)
                gone.append(key)
        self._store.delete(gone)

    def remove_all(self, collection: str) -> None:
        """Remove all entries, readable or not."""
        keys = [item.key for item in self._store.list(layout.trash_prefix(collection))]
        self._store.delete([key for key in keys if layout.trash_entry_of(key) or layout.trash_batch_of(key)])

    def _batches(self, collection: str) -> list[str]:
        keys = (item.key for item in self._store.list(layout.trash_batches_prefix(collection)))
        return [key for key in keys if layout.trash_batch_of(key)]

    def _batched(self, collection: str) -> dict[str, TrashEntry]:
        """Return the entries in batches, by digest."""
        found: dict[str, TrashEntry] = {}
        for entries in self._read_batches(collection):
            for digest, entry in entries.items():
                found[digest] = _later(entry, found.get(digest)) or entry
        return found

    def _read_batches(self, collection: str) -> list[Mapping[str, TrashEntry]]:
        for _ in range(_LISTINGS):
            try:
                return _each(self._batch, self._batches(collection))
            except ObjectNotFound:  # what was left of it is in another by now
                continue
        raise StoreUnavailable(f"the trash of {collection!r} changes faster than it can be read")

    def _batch(self, key: str) -> Mapping[str, TrashEntry]:
        """Return the entries of a batch, by digest.

        Raises:
            ObjectNotFound: It is gone.
        """
        if (kept := self._kept.get(key)) is not None:
            return kept
        entries = {entry.digest: entry for entry in loads_batch(self._store.get(key), place=key)}
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[key] = entries
        return entries

    def _read(self, collection: str, digest: str) -> TrashEntry | None:
        key = layout.trash_key(collection, digest)
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            return None
        return _ENTRY.loads(data, _entry_of, place=key)


def _each(work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    if len(items) < 2:  # a thread would only cost time
        return [work(item) for item in items]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="trash") as pool:
        return list(pool.map(work, items))


def dumps_batch(entries: Iterable[TrashEntry]) -> bytes:
    """Return a batch of entries as it is stored."""
    return _BATCH.dumps({"entries": [_values_of(entry) for entry in entries]})


def loads_batch(data: bytes, *, place: str) -> list[TrashEntry]:
    """Return the entries of a stored batch.

    Raises:
        Invalid: It cannot be read, or a newer version of Artseek wrote it.
    """
    return _BATCH.loads(data, lambda values: [_entry_of(value) for value in values["entries"]], place=place)


def _later(entry: TrashEntry | None, other: TrashEntry | None) -> TrashEntry | None:
    """Return the entry of the later deletion."""
    if entry is None or other is None:
        return entry or other
    return max(entry, other, key=lambda one: one.deleted)


def _values_of(entry: TrashEntry) -> dict[str, Any]:
    values = dict(vars(entry))
    if entry.document is None:  # which earlier versions do not know
        del values["document"]
    else:
        values["document"] = asdict(entry.document)
    return values


def _entry_of(values: dict[str, Any]) -> TrashEntry:
    document, flags = values.pop("document", None), tuple(values.pop("flags", ()))
    return TrashEntry(**values, flags=flags, document=document and DocumentPage(**document))
