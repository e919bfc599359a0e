"""The trash of each collection: images that were deleted from it, and can be restored for a while."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.storage import layout
from shared.storage.documents import DocumentPage
from shared.storage.object_store import ObjectStore
from shared.storage.segments import Entry
from shared.versioned import StoredKind

_log = logging.getLogger(__name__)

_ENTRY = StoredKind("trash entry")
_THREADS = 8


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
    """Reads and writes the entries in the object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, collection: str, entries: Sequence[TrashEntry]) -> None:
        """Add images to a collection's trash, or write their entries anew."""

        def write(entry: TrashEntry) -> None:
            value = asdict(entry)
            if entry.document is None:  # which earlier versions do not know
                del value["document"]
            self._store.put(layout.trash_key(collection, entry.digest), _ENTRY.dumps(value), "application/json")

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="trash") as pool:
            list(pool.map(write, entries))

    def digests(self, collection: str) -> list[str]:
        """Return the digests of the images in a collection's trash, the latest deleted first."""
        found = sorted(self._store.list(layout.trash_prefix(collection)), key=lambda item: (-item.modified, item.key))
        return [digest for _, digest in layout.trash_entries_of(item.key for item in found)]

    def collections(self) -> list[str]:
        """Return the names of the collections that have something in their trash, whether they are there or not."""
        found = layout.trash_entries_of(item.key for item in self._store.list(layout.TRASH))
        return sorted({collection for collection, _ in found})

    def entries(self, collection: str, digests: Iterable[str]) -> Iterator[TrashEntry]:
        """Yield the entries of images, in order; those that are gone, or cannot be read, are left out."""

        def read(digest: str) -> TrashEntry | None:
            try:
                return self._read(collection, digest)
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
        found = layout.trash_entries_of(item.key for item in self._store.list(prefix))
        return [digest for _, digest in found if layout.image_id(digest) == image_id]

    def get(self, collection: str, image_id: int) -> TrashEntry:
        """Return the entry of an image.

        Raises:
            NotFound: It is not in the collection's trash.
            Invalid: The entry cannot be read.
        """
        for digest in self.of_image(collection, image_id):
            if (entry := self._read(collection, digest)) is not None:
                return entry
        raise NotFound(f"the trash of the collection {collection!r} has no image {image_id}")

    def remove(self, collection: str, digests: Iterable[str]) -> None:
        """Remove entries; those that are not there are passed over."""
        self._store.delete([layout.trash_key(collection, digest) for digest in digests])

    def _read(self, collection: str, digest: str) -> TrashEntry | None:
        key = layout.trash_key(collection, digest)
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            return None
        return _ENTRY.loads(data, _entry_of, place=key)


def _entry_of(values: dict[str, Any]) -> TrashEntry:
    document = values.pop("document", None)
    return TrashEntry(**values, document=document and DocumentPage(**document))
