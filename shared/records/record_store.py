"""Records in the object store: change objects, each written once and whole, which are merged when they are many.

Changes may be applied in any order and more than once (`shared.records.model`), so no writer waits for another, and
whoever dies leaves a change that is there or not. A merge is a change object that says what its inputs say and sorts
behind them: it is written before they are deleted, so a listing that misses it has seen them.
"""

import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from shared.errors import IndexUnavailable
from shared.records import change_file
from shared.records.change_file import Change, FieldChange, Header, ImageChange
from shared.records.model import LABEL, Cell, Cells, FieldType, Origin, Value
from shared.records.paths import KnownPath, PathEntry
from shared.state import Change as Announcement
from shared.state import Changes
from shared.state.locks import LEASE_S, Lock, Locks
from shared.storage import layout
from shared.storage.object_store import ObjectStore, StoredObject

MERGE_AT: Final = 16  # change objects of like size
_SIZE_STEP: Final = 4  # sizes are alike within this factor
_SMALLEST: Final = 4096  # bytes; what is smaller is all alike

Said = Mapping[int, Mapping[str, Sequence[Value]]]
"""Values by image and field."""


@dataclass(frozen=True)
class StoredChange:
    """A change object by its name."""

    name: str
    size: int


def records_lock(collection: str) -> Lock:
    """Return the lock of workers that rewrite the records of a collection; whoever adds to them takes none."""
    return Lock(f"records:{collection}", f"another worker rewrites the records of {collection!r}")


class RecordStore:
    """Writes, lists, reads, merges and erases the records of collections."""

    def __init__(self, store: ObjectStore, announcements: Changes | None = None) -> None:
        """Work on a store; what is written is told to `announcements`."""
        self._store, self._announcements = store, announcements

    # Writing

    def say(
        self,
        collection: str,
        origin: Origin,
        said: Said,
        *,
        types: Mapping[str, FieldType] | None = None,
        after: int = 0,
    ) -> str | None:
        """Store what an origin says of fields of images, in one step; fields that it does not name stay as they are.

        `types` are those of own fields that are new. What was known has the stamp `after` at most: what is said now is
        later, whatever the clock says.

        Returns:
            The name of the change; None: nothing was said.

        Raises:
            Unavailable: The store does not answer.
        """
        stamp = max(time.time_ns(), after + 1)
        images = [ImageChange(image_id, _cells(origin, stamp, fields)) for image_id, fields in sorted(said.items())]
        fields = [FieldChange(name, field_type, stamp) for name, field_type in (types or {}).items()]
        return self._add(collection, stamp, [image for image in images if image.cells], fields)

    def note_paths(
        self,
        collection: str,
        noted: Mapping[int, Sequence[KnownPath]],
        *,
        labels: Mapping[int, Sequence[str]] | None = None,
        after: int = 0,
    ) -> str | None:
        """Store what is known of paths of images, and which labels their folders give them, in one step; see `say`.

        Raises:
            Unavailable: The store does not answer.
        """
        stamp = max(time.time_ns(), after + 1)
        changes: dict[int, ImageChange] = {}
        for image_id, paths in noted.items():
            change = changes[image_id] = ImageChange(image_id)
            for path in paths:
                change.paths.setdefault(path.source, {})[path.path] = PathEntry(stamp, path.state, path.label)
        for image_id, given in (labels or {}).items():
            change = changes.setdefault(image_id, ImageChange(image_id))
            change.cells[LABEL] = {"folder": Cell(stamp, tuple(Value(label) for label in given))}
        return self._add(collection, stamp, sorted(changes.values(), key=lambda change: change.id), [])

    def restore(self, collection: str, changes: Iterable[ImageChange], fields: Iterable[FieldChange]) -> str | None:
        """Store cells of several origins, in one step."""
        return self._add(collection, time.time_ns(), sorted(changes, key=lambda change: change.id), list(fields))

    def add(self, changes: Iterable[ImageChange], collection: str) -> str | None:
        """Store cells of several origins, in one step; nothing, if there are none."""
        return self.restore(collection, [change for change in changes if change.cells or change.paths], [])

    def _add(
        self, collection: str, stamp: int, images: Sequence[ImageChange], fields: Sequence[FieldChange]
    ) -> str | None:
        if not images and not fields:
            return None
        with tempfile.TemporaryFile() as file:
            change_file.write(file, Header(), fields, images)
            name = self._put(collection, file, _new_name(stamp))
        self._announce(collection, name)
        return name

    def _put(self, collection: str, file: BinaryIO, name: str) -> str:
        size = file.tell()
        file.seek(0)
        self._store.upload(layout.record_change_key(collection, name), file, size, "application/gzip")
        return name

    def _announce(self, collection: str, name: str = "") -> None:
        if self._announcements is not None:
            with suppress(IndexUnavailable):  # whoever follows lists the store meanwhile
                self._announcements.announce(Announcement(collection, "records", name))

    # Reading

    def collections(self) -> list[str]:
        """Return the names of the collections that have records."""
        return list(self._store.folders(layout.RECORDS))

    def changes(self, collection: str) -> list[StoredChange]:
        """Return the change objects of a collection, the oldest first."""
        return [change for _, change in _named(self._store.list(layout.records_prefix(collection)))]

    def all_changes(self) -> dict[str, list[StoredChange]]:
        """Return the change objects of all collections."""
        found: dict[str, list[StoredChange]] = {}
        for collection, change in _named(self._store.list(layout.RECORDS)):
            found.setdefault(collection, []).append(change)
        return found

    def header(self, collection: str, name: str) -> Header:
        """Return the header of a change object.

        Raises:
            ObjectNotFound: It is gone: it was merged.
            Invalid: It cannot be read.
        """
        key = layout.record_change_key(collection, name)
        return change_file.read_header(self._store.get(key, size=change_file.HEADER_BYTES), place=key)

    @contextmanager
    def reading(self, collection: str, name: str, *, folder: Path | None = None) -> Iterator[Iterator[Change]]:
        """Give what a change object says; it lies in a temporary file meanwhile, in `folder`.

        Raises:
            ObjectNotFound: It is gone: it was merged.
            Invalid: It cannot be read.
        """
        key = layout.record_change_key(collection, name)
        with tempfile.TemporaryFile(dir=folder) as file:
            for part in self._store.stream(key):
                file.write(part)
            file.seek(0)
            yield change_file.read(file, place=key)

    # Rewriting

    def merge_due(self, collection: str) -> list[str]:
        """Return the names of the change objects to merge now: sixteen of like size, or none."""
        tiers: dict[int, list[str]] = {}
        for change in self.changes(collection):
            tiers.setdefault(_tier(change.size), []).append(change.name)
        for tier in sorted(tiers):
            if len(tiers[tier]) >= MERGE_AT:
                return [name for below in sorted(tiers) if below <= tier for name in tiers[below]]
        return []

    def merge(self, collection: str, locks: Locks) -> bool:
        """Merge change objects if there are too many; returns whether there were.

        Raises:
            Unavailable: The store does not answer, or another worker is at it.
        """
        with locks.hold(records_lock(collection), wait_s=LEASE_S):
            names = self.merge_due(collection)
            if names:
                self._rewrite(collection, names, locks)
        return bool(names)

    def erase(self, collection: str, image_ids: Iterable[int], locks: Locks) -> None:
        """Remove for good what is known and was ever known of images; it may run twice.

        What is erased cannot come back by a change that was made before.

        Raises:
            Unavailable: The store does not answer, or another worker is at it.
        """
        wanted = set(image_ids)
        if not wanted or not self.changes(collection):
            return
        with locks.hold(records_lock(collection), wait_s=LEASE_S):
            latest = {
                change.name: stamp
                for change in self.changes(collection)
                if (stamp := self._latest_of(collection, change, wanted)) is not None
            }
            if not (held := list(latest)):
                return
            # Behind all that was said, by whichever clock: the name of a change tells when it was written, no more.
            stamp = max(time.time_ns(), 1 + max(latest.values()))
            marks = [ImageChange(image_id, erased=stamp) for image_id in sorted(wanted)]
            # First, for services that have what is erased, and pass over the merge of what they have.
            self._add(collection, stamp, marks, [])
            self._rewrite(collection, held, locks, marks)

    def drop(self, collection: str) -> None:
        """Remove all records of a collection."""
        self._store.delete([item.key for item in self._store.list(layout.records_prefix(collection))])
        self._announce(collection)

    def announce(self, collection: str) -> None:
        """Have the records of a collection listed anew by those who follow them."""
        self._announce(collection)

    def _latest_of(self, collection: str, change: StoredChange, wanted: set[int]) -> int | None:
        """Return the latest stamp of what a change says of some images; None: it says nothing of them."""
        with self.reading(collection, change.name) as said:
            stamps = (
                line.stamp
                for line in said
                if isinstance(line, ImageChange) and line.id in wanted and (line.cells or line.paths)
            )
            return max(stamps, default=None)

    def _rewrite(self, collection: str, names: Sequence[str], locks: Locks, marks: Sequence[ImageChange] = ()) -> None:
        """Write one change object in the place of several, without what is marked as erased."""
        header = Header(tuple(sorted(names)))
        with ExitStack() as open_files, tempfile.TemporaryFile() as file:
            opened = [open_files.enter_context(self.reading(collection, name)) for name in names]
            fields, images = change_file.merged([*opened, iter(marks)])
            change_file.write(file, header, fields, images)
            # The clock of another worker may be ahead: the name sorts behind those of the inputs.
            locks.check(records_lock(collection))
            last = max(_stamp_of(name) for name in names)
            merged = self._put(collection, file, _new_name(max(time.time_ns(), last + 1)))
        locks.check(records_lock(collection))
        self._store.delete([layout.record_change_key(collection, name) for name in names])
        self._announce(collection, merged)


def _cells(origin: Origin, stamp: int, fields: Mapping[str, Sequence[Value]]) -> Cells:
    return {name: {origin: Cell(stamp, tuple(values))} for name, values in fields.items()}


def _named(items: Iterable[StoredObject]) -> Iterator[tuple[str, StoredChange]]:
    for item in items:
        if found := layout.record_change_of(item.key):
            yield found[0], StoredChange(found[1], item.size)


def _new_name(stamp: int) -> str:
    return f"{stamp:016x}-{secrets.token_hex(4)}"


def _stamp_of(name: str) -> int:
    return int(name.partition("-")[0], 16)


def _tier(size: int) -> int:
    tier = 0
    while size > _SMALLEST:
        size //= _SIZE_STEP
        tier += 1
    return tier
