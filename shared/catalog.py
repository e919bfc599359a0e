"""The catalog of collections, as the object store has it: manifests, segments, dead rows, index generations."""

import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from shared import layout
from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.store import ObjectStore

_JSON = "application/json"


@dataclass(frozen=True)
class Collection:
    """A collection's manifest. One model version makes one embedding space, and a collection lies in one.

    `tag` is 8 hexadecimal digits that name the collection in the keys of its buckets, shorter than its name.
    """

    name: str
    tag: str
    model: str
    version: int
    dim: int
    created: float


@dataclass(frozen=True)
class CurrentIndex:
    """Which index generation of a collection is in use, and on how many images it was trained."""

    generation: int
    trained_on: int


class Catalog:
    """Reads and writes what the object store knows of collections."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    # Manifests

    def create(self, name: str, *, model: str, version: int, dim: int) -> Collection:
        """Return the collection's manifest, written now if there is none.

        Raises:
            Invalid: The name does not fit.
        """
        layout.collection_name(name)
        try:
            return self.get(name)
        except NotFound:
            made = Collection(name, secrets.token_hex(4), model, version, dim, time.time())
            self.store.put(layout.manifest_key(name), json.dumps(asdict(made), indent=2).encode(), _JSON)
            # Two creators may have met: whoever wrote last is the one everybody reads.
            return self.get(name)

    def get(self, name: str) -> Collection:
        """Return a collection's manifest.

        Raises:
            NotFound: There is no such collection.
            Invalid: The name does not fit, or the manifest cannot be read.
        """
        layout.collection_name(name)
        try:
            data = self.store.get(layout.manifest_key(name))
        except ObjectNotFound:
            raise NotFound(f"there is no collection {name!r}") from None
        try:
            return Collection(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise Invalid(f"the manifest {layout.manifest_key(name)!r} cannot be read: {error}") from error

    def names(self) -> list[str]:
        """Return the names of all collections, sorted."""
        keys = (item.key for item in self.store.list(layout.COLLECTIONS))
        return sorted(key.removeprefix(layout.COLLECTIONS).removesuffix(".json") for key in keys)

    # Segments and dead rows

    def segments(self, name: str) -> list[str]:
        """Return the names of a collection's segments, sorted."""
        return sorted(layout.segment_of(item.key) for item in self.store.list(layout.segments_prefix(name)))

    def dead_rows(self, name: str) -> set[tuple[str, int]]:
        """Return the rows that were deleted: segment and id."""
        return {layout.deleted_of(item.key) for item in self.store.list(layout.deleted_prefix(name))}

    def bury(self, name: str, rows: Iterable[tuple[str, int]]) -> None:
        """Mark rows as dead, for good: segments are never changed."""
        for segment, image in rows:
            self.store.put(layout.deleted_key(name, segment, image), b"")

    # Index generations

    def current_index(self, name: str) -> CurrentIndex | None:
        """Return which index generation is in use, None if none was made yet."""
        try:
            return CurrentIndex(**json.loads(self.store.get(layout.current_index_key(name))))
        except ObjectNotFound:
            return None

    def set_current_index(self, name: str, current: CurrentIndex) -> None:
        """Switch to another index generation."""
        self.store.put(layout.current_index_key(name), json.dumps(asdict(current)).encode(), _JSON)

    def next_generation(self, name: str) -> int:
        """Return a generation number that was never used."""
        keys = [item.key for item in self.store.list(layout.indexes_prefix(name)) if item.key.endswith(".npz")]
        return max((int(layout.segment_of(key).removesuffix(".npz")) for key in keys), default=0) + 1

    def drop(self, name: str) -> list[str]:
        """Delete a collection's manifest, segments, dead rows and generations, the manifest last.

        The originals stay: other collections may hold them.

        Returns:
            The names of the segments that were deleted.
        """
        segments = self.segments(name)
        for prefix in (layout.segments_prefix(name), layout.deleted_prefix(name), layout.indexes_prefix(name)):
            self.store.delete([item.key for item in self.store.list(prefix)])
        self.store.delete([layout.manifest_key(name)])
        return segments
