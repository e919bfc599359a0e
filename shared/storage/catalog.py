"""The catalog of collections, as the object store has it: manifests, segments, dead rows, index generations."""

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.tuning.report import IndexReport

_JSON = "application/json"
_WRITES = 8  # at a time: a server waits for its disk, not for its processor


@dataclass(frozen=True)
class Collection:
    """The manifest of a collection in one of its spaces: what one model version makes of it.

    `tag` is 8 hexadecimal digits that name the space in the keys of its buckets, shorter than its name. `number` tells
    the spaces of a collection apart; the later one has the larger number.
    """

    name: str
    tag: str
    model: str
    version: int
    dim: int
    created: float
    number: int = 0

    @property
    def space(self) -> str:
        """The name of the space, by which everything of it is stored."""
        return layout.space_name(self.name, self.number)


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
            self._write(layout.manifest_key(name), made)
            # Two creators may have met: whoever wrote last is the one everybody reads.
            return self.get(name)

    def get(self, name: str) -> Collection:
        """Return the manifest of the space that a collection uses.

        Raises:
            NotFound: There is no such collection.
            Invalid: The name does not fit, or the manifest cannot be read.
        """
        layout.collection_name(name)
        found = self._in_use(name)
        if found is None:
            raise NotFound(f"there is no collection {name!r}")
        return found

    def _in_use(self, name: str) -> Collection | None:
        return self._read(layout.manifest_key(name))

    def _read(self, key: str) -> Collection | None:
        """Return the manifest with a key, None if there is none."""
        try:
            return Collection(**json.loads(self.store.get(key)))
        except ObjectNotFound:
            return None
        except (ValueError, TypeError) as error:
            raise Invalid(f"the manifest {key!r} cannot be read: {error}") from error

    def _write(self, key: str, collection: Collection) -> None:
        self.store.put(key, json.dumps(asdict(collection), indent=2).encode(), _JSON)

    def names(self) -> list[str]:
        """Return the names of all collections, sorted."""
        keys = (item.key for item in self.store.list(layout.COLLECTIONS))
        return sorted(key.removeprefix(layout.COLLECTIONS).removesuffix(".json") for key in keys)

    # Spaces: the one in use, one that is being filled with another model's embeddings, those that were in use before

    def space(self, space: str) -> Collection:
        """Return the manifest of a space, in use or not.

        Raises:
            NotFound: There is no such space.
        """
        name = layout.collection_of(space)
        for _ in range(2):  # the second time, one that came into use while it was looked for is found
            for found in (self._in_use(name), self._read(layout.space_key(space))):
                if found is not None and found.space == space:
                    return found
        raise NotFound(f"the collection {name!r} has no space {space!r}")

    def unused_spaces(self, name: str) -> list[Collection]:
        """Return a collection's spaces that are not in use, by their numbers.

        One with a larger number than the one in use is being filled; the others were in use before.
        """
        keys = [item.key for item in self.store.list(layout.spaces_prefix(name))]
        found = [manifest for manifest in map(self._read, keys) if manifest is not None]
        in_use = self._in_use(name)  # after the listing: one that has come into use since is not among them
        spaces = [one for one in found if in_use is None or one.space != in_use.space]
        return sorted(spaces, key=lambda one: one.number)

    def filling(self, collection: Collection) -> Collection | None:
        """Return the space that a collection, given as it is in use, is being moved to; None if it is not."""
        spaces = [one for one in self.unused_spaces(collection.name) if one.number > collection.number]
        return spaces[-1] if spaces else None

    def all_unused_spaces(self) -> list[str]:
        """Return the names of the spaces of all collections whose manifests say that they are not in use."""
        keys = (item.key for item in self.store.list(layout.SPACES))
        return sorted(key.removeprefix(layout.SPACES).removesuffix(".json") for key in keys)

    def create_space(self, collection: Collection, *, model: str, version: int, dim: int) -> Collection:
        """Write the manifest of a new space of a collection, which is to be filled."""
        number = 1 + max([collection.number, *(one.number for one in self.unused_spaces(collection.name))])
        made = Collection(collection.name, secrets.token_hex(4), model, version, dim, collection.created, number)
        self._write(layout.space_key(made.space), made)
        return made

    def use_space(self, collection: Collection, used: Collection) -> None:
        """Switch a collection from the space in use to one that was filled, in one write."""
        self._write(layout.space_key(used.space), used)  # first, so that whoever dies here leaves a space that is known
        self._write(layout.manifest_key(collection.name), collection)
        self.store.delete([layout.space_key(collection.space)])

    # Segments and dead rows

    def segments(self, space: str) -> list[str]:
        """Return the names of a space's segments, sorted."""
        return sorted(layout.segment_of(item.key) for item in self.store.list(layout.segments_prefix(space)))

    def segment_sizes(self, space: str) -> dict[str, int]:
        """Return the sizes of a space's segments in bytes, by their names, sorted."""
        return {layout.segment_of(item.key): item.size for item in self.store.list(layout.segments_prefix(space))}

    def dead_rows(self, space: str) -> set[tuple[str, int]]:
        """Return the rows that were deleted: segment and id."""
        return {layout.deleted_of(item.key) for item in self.store.list(layout.deleted_prefix(space))}

    def dead_ids(self, space: str, segment: str) -> set[int]:
        """Return the ids of a segment's dead rows."""
        prefix = f"{layout.deleted_prefix(space)}{segment}/"
        return {layout.deleted_of(item.key)[1] for item in self.store.list(prefix)}

    def bury(self, space: str, rows: Iterable[tuple[str, int]]) -> None:
        """Mark rows as dead, for good: segments are never changed."""
        keys = [layout.deleted_key(space, segment, image) for segment, image in rows]
        if keys:
            with ThreadPoolExecutor(min(len(keys), _WRITES), thread_name_prefix="bury") as pool:
                for _ in pool.map(lambda key: self.store.put(key, b""), keys):
                    pass

    def remove_segments(self, space: str, segments: Sequence[str]) -> None:
        """Delete segments, then the marks of their dead rows."""
        self.store.delete([layout.segment_key(space, segment) for segment in segments])
        for segment in segments:
            self.remove_marks(space, ((segment, image) for image in self.dead_ids(space, segment)))

    def remove_marks(self, space: str, rows: Iterable[tuple[str, int]]) -> None:
        """Delete the marks of dead rows whose segment is gone."""
        self.store.delete([layout.deleted_key(space, segment, image) for segment, image in rows])

    # Merges in progress

    def merges(self, space: str) -> dict[str, tuple[str, ...]]:
        """Return the segments that are being written, and what each is made of."""
        keys = [item.key for item in self.store.list(layout.merges_prefix(space))]
        return {
            layout.segment_of(key).removesuffix(".json"): tuple(json.loads(self.store.get(key))["inputs"])
            for key in keys
        }

    def begin_merge(self, space: str, merged: str, inputs: Sequence[str]) -> None:
        """Note what a segment is going to be made of, before it is written."""
        self.store.put(layout.merge_key(space, merged), json.dumps({"inputs": list(inputs)}).encode(), _JSON)

    def end_merge(self, space: str, merged: str) -> None:
        """Note that a merge is done, or was given up before its segment was written."""
        self.store.delete([layout.merge_key(space, merged)])

    # Index generations

    def current_index(self, space: str) -> CurrentIndex | None:
        """Return which index generation is in use, None if none was made yet."""
        try:
            return CurrentIndex(**json.loads(self.store.get(layout.current_index_key(space))))
        except ObjectNotFound:
            return None

    def set_current_index(self, space: str, current: CurrentIndex) -> None:
        """Switch to another index generation."""
        self.store.put(layout.current_index_key(space), json.dumps(asdict(current)).encode(), _JSON)

    def next_generation(self, space: str) -> int:
        """Return a generation number that was never used."""
        numbers = (layout.generation_of(item.key) for item in self.store.list(layout.indexes_prefix(space)))
        return max((number for number in numbers if number is not None), default=0) + 1

    def set_index_report(self, space: str, report: IndexReport) -> None:
        """Write what was predicted and measured of an index generation."""
        data = json.dumps(report.to_json()).encode()
        self.store.put(layout.generation_report_key(space, report.generation), data, _JSON)

    def index_report(self, space: str, generation: int) -> IndexReport | None:
        """Return what was predicted and measured of an index generation; None for one that was never checked."""
        try:
            return IndexReport.from_json(json.loads(self.store.get(layout.generation_report_key(space, generation))))
        except ObjectNotFound:
            return None

    def current_report(self, name: str) -> IndexReport | None:
        """Return the report on the index generation that a collection uses; None if none is, or it was never checked.

        Raises:
            NotFound: There is no such collection.
        """
        space = self.get(name).space
        current = self.current_index(space)
        return None if current is None else self.index_report(space, current.generation)

    def remove_generations(self, space: str, *, before: int) -> None:
        """Delete the generations with smaller numbers, and the reports on them."""
        keys = [item.key for item in self.store.list(layout.indexes_prefix(space))]
        numbers = {key: layout.generation_of(key) for key in keys}
        self.store.delete([key for key, number in numbers.items() if number is not None and number < before])

    def drop(self, collection: Collection) -> list[str]:
        """Delete a space's segments, merges, dead rows and generations, its manifest last.

        The originals stay: other collections may hold them.

        Returns:
            The names of the segments that were deleted.
        """
        space = collection.space
        segments = self.segments(space)
        prefixes = (layout.segments_prefix, layout.merges_prefix, layout.deleted_prefix, layout.indexes_prefix)
        for prefix in (of(space) for of in prefixes):
            self.store.delete([item.key for item in self.store.list(prefix)])
        in_use = self._in_use(collection.name)
        if in_use is not None and in_use.space == space:
            self.store.delete([layout.manifest_key(collection.name)])
        self.store.delete([layout.space_key(space)])
        return segments
