"""Systems to back up, and what a backup holds, read as a reader of the restored store would."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

from shared.backup.repository import Repository
from shared.backup.snapshot import Snapshot
from shared.errors import ObjectNotFound
from shared.storage import layout, segments
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore, StoredObject
from tests.support import rows
from tests.support.indexing import Died, Mortal, Parts


class SnapshotStore:
    """The objects of a snapshot, as an object store that can be read."""

    def __init__(self, repository: Repository, snapshot: Snapshot) -> None:
        self._repository = repository
        self._entries = {entry.key: entry for entry in snapshot.objects}

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        if key not in self._entries:
            raise ObjectNotFound(key)
        return b"".join(self._repository.read_blob(self._entries[key]))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys start with a prefix."""
        for key in sorted(self._entries):
            if key.startswith(prefix):
                yield StoredObject(key, self._entries[key].size)


def catalog_of(repository: Repository, name: str) -> Catalog:
    """Return the catalog of the collections in a snapshot."""
    return Catalog(cast("ObjectStore", cast("Any", SnapshotStore(repository, repository.read_snapshot(name)))))


def live_images(catalog: Catalog, set_name: str) -> Counter[str]:
    """Return the digests of an embedding set's images, and how often a reader of the store has each.

    A merged segment stands for its inputs.
    """
    batches = {
        segment: segments.unpack(catalog.store.get(layout.segment_key(set_name, segment)), verify=True)
        for segment in catalog.segments(set_name)
    }
    hidden = {segment for batch in batches.values() for segment in segments.inputs_of(batch)}
    deleted = catalog.tombstones(set_name)
    found: Counter[str] = Counter()
    for segment, batch in batches.items():
        inputs, origins = segments.inputs_of(batch), segments.origins_of(batch)
        for row in range(len(batch) if segment not in hidden else 0):
            entry = segments.entry_of(batch, row)
            origin = inputs[origins[row]] if origins is not None else segment
            if not {(segment, entry.id), (origin, entry.id)} & deleted:
                found[entry.digest] += 1
    return found


def originals(catalog: Catalog) -> set[str]:
    """Return the digests of the originals in a store."""
    return {item.key.rpartition("/")[2] for item in catalog.store.list(layout.original_key(""))}


def digests(numbers: Any) -> set[str]:
    """Return the digests of the images with these numbers."""
    return {rows.digest(number) for number in numbers}


def delete(parts: Parts, *numbers: int, job: str = "d") -> None:
    """Delete the images with these numbers from the collection `art`."""
    parts.indexer().deletion.delete(job=parts.job(job, kind="delete"), collection="art", image_ids=rows.ids(numbers))


def fill_art(parts: Parts, segments: int = 4, *, index: bool = True) -> None:
    """Make a collection of segments with four images each, and an index for them; image 1 is deleted."""
    art = parts.collection()
    for place in range(segments):
        parts.add(art, f"s{place:02}", range(4 * place, 4 * place + 4))
    if index:
        parts.maintenance().tuner.maintain(collection="art")
    delete(parts, 1)


class Perishable(Mortal):
    """Passes calls on until a life is spent; every call after that dies too, as those of a dead process."""

    def _spend(self) -> None:
        self._life[0] -= 1
        if self._life[0] <= 0:
            raise Died
