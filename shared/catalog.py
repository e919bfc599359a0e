"""The catalog of collections, as the object store has it: manifests, segments, dead rows, index generations."""

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from shared import layout
from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.store import ObjectStore

_JSON = "application/json"
_WRITES = 8  # at a time: a server waits for its disk, not for its processor


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

    def segment_sizes(self, name: str) -> dict[str, int]:
        """Return the sizes of a collection's segments in bytes, by their names, sorted."""
        return {layout.segment_of(item.key): item.size for item in self.store.list(layout.segments_prefix(name))}

    def dead_rows(self, name: str) -> set[tuple[str, int]]:
        """Return the rows that were deleted: segment and id."""
        return {layout.deleted_of(item.key) for item in self.store.list(layout.deleted_prefix(name))}

    def dead_ids(self, name: str, segment: str) -> set[int]:
        """Return the ids of a segment's dead rows."""
        prefix = f"{layout.deleted_prefix(name)}{segment}/"
        return {layout.deleted_of(item.key)[1] for item in self.store.list(prefix)}

    def bury(self, name: str, rows: Iterable[tuple[str, int]]) -> None:
        """Mark rows as dead, for good: segments are never changed."""
        keys = [layout.deleted_key(name, segment, image) for segment, image in rows]
        if keys:
            with ThreadPoolExecutor(min(len(keys), _WRITES), thread_name_prefix="bury") as pool:
                for _ in pool.map(lambda key: self.store.put(key, b""), keys):
                    pass

    def remove_segments(self, name: str, segments: Sequence[str]) -> None:
        """Delete segments, then the marks of their dead rows."""
        self.store.delete([layout.segment_key(name, segment) for segment in segments])
        for segment in segments:
            self.remove_marks(name, ((segment, image) for image in self.dead_ids(name, segment)))

    def remove_marks(self, name: str, rows: Iterable[tuple[str, int]]) -> None:
        """Delete the marks of dead rows whose segment is gone."""
        self.store.delete([layout.deleted_key(name, segment, image) for segment, image in rows])

    # Merges in progress

    def merges(self, name: str) -> dict[str, tuple[str, ...]]:
        """Return the segments that are being written, and what each is made of."""
        keys = [item.key for item in self.store.list(layout.merges_prefix(name))]
        return {
            layout.segment_of(key).removesuffix(".json"): tuple(json.loads(self.store.get(key))["inputs"])
            for key in keys
        }

    def begin_merge(self, name: str, merged: str, inputs: Sequence[str]) -> None:
        """Note what a segment is going to be made of, before it is written."""
        self.store.put(layout.merge_key(name, merged), json.dumps({"inputs": list(inputs)}).encode(), _JSON)

    def end_merge(self, name: str, merged: str) -> None:
        """Note that a merge is done, or was given up before its segment was written."""
        self.store.delete([layout.merge_key(name, merged)])

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
        numbers = (layout.generation_of(item.key) for item in self.store.list(layout.indexes_prefix(name)))
        return max((number for number in numbers if number is not None), default=0) + 1

    def set_index_report(self, name: str, generation: int, report: dict[str, Any]) -> None:
        """Write what was predicted and measured of an index generation."""
        self.store.put(layout.generation_report_key(name, generation), json.dumps(report).encode(), _JSON)

    def index_report(self, name: str, generation: int) -> dict[str, Any] | None:
        """Return what was predicted and measured of an index generation; None for one that was never checked."""
        try:
            return dict(json.loads(self.store.get(layout.generation_report_key(name, generation))))
        except ObjectNotFound:
            return None

    def current_report(self, name: str) -> dict[str, Any] | None:
        """Return the report on the index generation in use; None if there is none, or it was never checked.

        Raises:
            NotFound: There is no such collection.
        """
        self.get(name)
        current = self.current_index(name)
        return None if current is None else self.index_report(name, current.generation)

    def remove_generations(self, name: str, *, before: int) -> None:
        """Delete the generations with smaller numbers, and the reports on them."""
        keys = [item.key for item in self.store.list(layout.indexes_prefix(name))]
        numbers = {key: layout.generation_of(key) for key in keys}
        self.store.delete([key for key, number in numbers.items() if number is not None and number < before])

    def drop(self, name: str) -> list[str]:
        """Delete a collection's manifest, segments, merges, dead rows and generations, the manifest last.

        The originals stay: other collections may hold them.

        Returns:
            The names of the segments that were deleted.
        """
        segments = self.segments(name)
        prefixes = (layout.segments_prefix, layout.merges_prefix, layout.deleted_prefix, layout.indexes_prefix)
        for prefix in (of(name) for of in prefixes):
            self.store.delete([item.key for item in self.store.list(prefix)])
        self.store.delete([layout.manifest_key(name)])
        return segments
