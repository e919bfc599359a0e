"""Copies objects of a store into a repository: each once, and none that is there already."""

import logging
from collections.abc import Callable, Iterable, Mapping

from shared.backup.parallel import each
from shared.backup.repository import Repository, Spooled, spool
from shared.backup.snapshot import Entry, fits
from shared.errors import ObjectNotFound
from shared.storage import evaluation_layout, layout
from shared.storage.object_store import ObjectStore, StoredObject

_log = logging.getLogger(__name__)

_THREADS = 8
_EMPTY = layout.digest_of(b"")
_BY_DIGEST = (layout.original_key(""), evaluation_layout.QUERIES)
"""What the keys of objects start with that end with the SHA-256 of their bytes."""

OnProgress = Callable[[int, int], None]
"""Takes how many objects are done, and how many there are."""


def named_digest(key: str) -> str | None:
    """Return the digest that the key of an original ends with; None for any other key."""
    prefix = next((prefix for prefix in _BY_DIGEST if key.startswith(prefix)), None)
    return None if prefix is None else key.removeprefix(prefix)


class ObjectCopier:
    """Copies objects; what it has copied, or an earlier backup has, is read again only if it has changed.

    Attributes:
        damaged: Keys of originals whose bytes are not what their keys say, and of objects that no backup can name.
        new_blobs: Blobs that were written.
        new_bytes: Their bytes.
    """

    def __init__(self, store: ObjectStore, repository: Repository, earlier: Iterable[Entry]) -> None:
        self._store, self._repository = store, repository
        self._blobs = repository.blobs()
        # Originals are known by their keys.
        self._entries = {entry.key: entry for entry in earlier if named_digest(entry.key) is None}
        self.damaged: set[str] = set()
        self.new_blobs = self.new_bytes = 0

    def copy(self, objects: Iterable[StoredObject], on_progress: OnProgress | None = None) -> dict[str, Entry]:
        """Copy objects; returns their entries by their keys, without those that were deleted meanwhile."""
        wanted: list[StoredObject] = []
        found: dict[str, Entry] = {}
        for item in objects:
            if (known := self._known(item)) is not None:
                found[item.key] = known
            elif self._can_be_named(item.key):
                wanted.append(item)
        for entry in each(self._copy, wanted, threads=_THREADS, on_progress=on_progress):
            if entry is not None:
                found[entry.key] = entry
        self._entries.update((key, entry) for key, entry in found.items() if named_digest(key) is None)
        return found

    def add_blob(self, spooled: Spooled) -> None:
        """Write what was read as a blob, unless it is there."""
        if self._blobs.get(spooled.digest) != spooled.size:
            self._repository.put_blob(spooled.digest, spooled.file, spooled.size)
            self._blobs[spooled.digest] = spooled.size
            self.new_blobs += 1
            self.new_bytes += spooled.size

    def write(self, key: str, data: bytes) -> Entry:
        """Write bytes in place of those of an object, which are not to be in the backup as they are."""
        spooled = spool([data])
        with spooled.file:
            self.add_blob(spooled)
        return Entry(key, spooled.digest, spooled.size)

    def bytes_of(self, entry: Entry) -> bytes:
        """Return the bytes of an entry that was copied."""
        return b"".join(self._repository.read_blob(entry))

    def _can_be_named(self, key: str) -> bool:
        if fits(Entry(key, _EMPTY, 0)):
            return True
        _log.error("the object %r is left out of the backup: no key of ours is like it", key)
        self.damaged.add(key)
        return False

    def _copy(self, item: StoredObject) -> Entry | None:
        """Copy an object; returns its entry, None if it was deleted."""
        try:
            spooled = spool(self._store.stream(item.key))
        except ObjectNotFound:
            return None
        with spooled.file:
            self.add_blob(spooled)
        named = named_digest(item.key)
        if named is not None and named != spooled.digest:
            _log.error("the object %r is damaged: its bytes have another SHA-256", item.key)
            self.damaged.add(item.key)
        # What was read may be newer than what was listed: then its tag is not known. Large objects are written once.
        is_listed = item.etag == spooled.md5 or ("-" in item.etag and spooled.size == item.size)
        return Entry(item.key, spooled.digest, spooled.size, item.etag if is_listed else "")

    def _known(self, item: StoredObject) -> Entry | None:
        """Return the entry of an object whose bytes the repository has; None if it must be read."""
        named = named_digest(item.key)
        if named is not None:
            entry: Entry | None = Entry(item.key, named, item.size)
        else:
            entry = self._entries.get(item.key)
            if entry is None or not item.etag or (entry.etag, entry.size) != (item.etag, item.size):
                return None
        return entry if entry is not None and self._blobs.get(entry.digest) == entry.size else None


def without_halves(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return entries without evaluations that were deleted while they were read: a report without its rows."""
    return {
        key: entry
        for key, entry in entries.items()
        if not (key.startswith(evaluation_layout.EVALUATIONS) and key.endswith(".json"))
        or f"{key.removesuffix('.json')}.parquet" in entries
    }
