"""The catalog of collections, as the object store has it: manifests, segments, tombstones, index generations."""

import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from shared.errors import Invalid, Locked, NotFound, ObjectNotFound, TooNew
from shared.storage import layout
from shared.storage.collection_names import CollectionNames
from shared.storage.object_store import ObjectStore
from shared.storage.tombstones import Tombstones
from shared.tuning.report import IndexReport
from shared.versioned import StoredKind

_JSON = "application/json"
_MANIFEST = StoredKind("manifest")
_MERGE = StoredKind("note of a merge")
_CURRENT = StoredKind("note of the index in use")
_REPORT = StoredKind("report on an index")


WindowsOf = Literal["all", "long"]
"""Of which images there are windows."""


@dataclass(frozen=True)
class EmbeddingSet:
    """The manifest of an embedding set: what one model version makes of a collection.

    Attributes:
        collection: The name of the collection.
        tag: 8 hexadecimal digits that name the embedding set in the keys of its buckets, shorter than its name.
        model: The model.
        version: Its version.
        dim: Components of an embedding.
        created: When the collection was created, in seconds since 1970.
        number: Tells the embedding sets of a collection apart; a later set has a larger number.
        windows_of: Where the rows are windows of a collection's images: of all images, or of long ones alone.
        moving_to: The name that the collection is being given. It counts from the moment on at which a collection of
            that name has this tag.
    """

    collection: str
    tag: str
    model: str
    version: int
    dim: int
    created: float
    number: int = 0
    windows_of: WindowsOf | None = None
    moving_to: str | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The name of the embedding set, by which everything of it is stored."""
        return layout.embedding_set_name(self.collection, self.number)


def read_manifest(key: str, data: bytes) -> EmbeddingSet:
    """Return the manifest with a key, given its bytes.

    Raises:
        TooNew: A newer version of Artseek wrote it.
        Invalid: It cannot be read.
    """
    return _MANIFEST.loads(data, lambda values: EmbeddingSet(**values), place=key)


@dataclass(frozen=True)
class CurrentIndex:
    """Which index generation of a collection is in use, and on how many images it was trained."""

    generation: int
    trained_on: int


class Catalog(CollectionNames):
    """Reads and writes what the object store knows of collections."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.store = store
        self._tombstones = Tombstones(store)

    # Manifests

    def create(
        self,
        name: str,
        *,
        model: str,
        version: int,
        dim: int,
        number: int | None = None,
        windows_of: WindowsOf | None = None,
    ) -> EmbeddingSet:
        """Return the collection's manifest, written now if there is none.

        Its first embedding set has a `number` that no other had under the name; None: none had any but by a rename.

        Raises:
            Invalid: The name does not fit.
            Locked: Another collection is just being given the name, or one that had it has not left it wholly.
        """
        layout.stored_name(name)
        try:
            return self.get(name)
        except NotFound:
            if (rename := self.renames.taking(name)) is not None:
                raise Locked(f"the collection {rename.old!r} is just being renamed to {name!r}") from None
            if (rename := self.renames.leaving(name)) is not None:  # which removes what is left under the name
                raise Locked(f"the collection {name!r} is just being renamed to {rename.new!r}") from None
            if number is None:
                number = layout.number_of(self.first_set_name(name))
            tag = secrets.token_hex(4)
            made = EmbeddingSet(name, tag, model, version, dim, time.time(), number, windows_of)
            self._write(layout.manifest_key(name), made)
            # Two creators may have met: whoever wrote last is the one everybody reads.
            return self.get(name)

    def get(self, name: str) -> EmbeddingSet:
        """Return the manifest of the embedding set that a collection uses.

        Raises:
            Renamed: The collection has another name now.
            NotFound: There is no such collection.
            Invalid: The name does not fit, or the manifest cannot be read.
        """
        layout.stored_name(name)
        found = self._active(name)
        if found is None:
            raise self.missing(name)
        return found

    def _active(self, name: str) -> EmbeddingSet | None:
        found = self.stored_manifest(name)
        return None if found is None or self.has_moved(found) else found

    def stored_manifest(self, name: str) -> EmbeddingSet | None:
        """Return the manifest under a name, also of a collection that was renamed a moment ago; None if there is none.

        Raises:
            Invalid: It cannot be read.
        """
        return self._read(layout.manifest_key(name))

    def _read(self, key: str) -> EmbeddingSet | None:
        """Return the manifest with a key, None if there is none."""
        try:
            data = self.store.get(key)
        except ObjectNotFound:
            return None
        return read_manifest(key, data)

    def _write(self, key: str, embedding_set: EmbeddingSet) -> None:
        values = {name: value for name, value in asdict(embedding_set).items() if value is not None}
        self.store.put(key, _MANIFEST.dumps(values, indent=2), _JSON)

    def put_manifest(self, embedding_set: EmbeddingSet) -> None:
        """Write the manifest of a collection that has none any more, or none yet under this name."""
        self._write(layout.manifest_key(embedding_set.collection), embedding_set)

    def names(self) -> list[str]:
        """Return the names of all collections, sorted; those of their regions are not among them."""
        return [name for name in self.stored_names() if not layout.is_regions(name)]

    def stored_names(self) -> list[str]:
        """Return the names of all collections and of those regions that are indexed, sorted."""
        keys = (item.key for item in self.store.list(layout.COLLECTIONS))
        return sorted(key.removeprefix(layout.COLLECTIONS).removesuffix(".json") for key in keys)

    def sets_without_manifest(self) -> list[str]:
        """Return the embedding sets of which there are segments, but no manifest: it was lost, or is being dropped.

        What is being copied to a new name has a manifest under the old one.
        """
        names = set(self.stored_names())
        unknown = [name for name in self.store.folders(layout.VECTORS) if layout.collection_of(name) not in names]
        manifests = {item.key for item in self.store.list(layout.EMBEDDING_SETS)} if unknown else set()
        return [
            set_name
            for set_name in unknown
            if layout.embedding_set_key(set_name) not in manifests
            and any(True for _ in self.store.list(layout.segments_prefix(set_name)))
            and self.rename_of(set_name) is None
            and self.renames.taking(layout.collection_of(set_name)) is None
        ]

    def has_moved(self, manifest: EmbeddingSet) -> bool:
        """Return whether a collection has left a manifest, since a rename has come so far that the new name counts."""
        if manifest.moving_to is None:
            return False
        other = self.stored_manifest(manifest.moving_to)
        return other is not None and other.tag == manifest.tag

    # Embedding sets: in use, being filled with another model's embeddings, or in use before

    def embedding_set(self, set_name: str) -> EmbeddingSet:
        """Return the manifest of an embedding set, in use or not.

        Raises:
            NotFound: There is no such embedding set.
        """
        name = layout.collection_of(set_name)
        for _ in range(2):  # the second time, one that came into use while it was looked for is found
            for found in (self._active(name), self._read(layout.embedding_set_key(set_name))):
                if found is not None and found.name == set_name:
                    return found
        raise NotFound(f"the collection {name!r} has no embedding set {set_name!r}")

    def unused_embedding_sets(self, collection: str) -> list[EmbeddingSet]:
        """Return a collection's embedding sets that are not in use, by their numbers.

        A set with a larger number than the set in use is being filled; the others were in use before.
        """
        keys = [item.key for item in self.store.list(layout.embedding_sets_prefix(collection))]
        found = [manifest for manifest in map(self._read, keys) if manifest is not None]
        if not found:
            return []
        active = self._active(collection)  # after the listing: a set that was activated since is not among them
        unused = [manifest for manifest in found if active is None or manifest.name != active.name]
        return sorted(unused, key=lambda manifest: manifest.number)

    def filling(self, active: EmbeddingSet) -> EmbeddingSet | None:
        """Return the embedding set that a collection, given by its set in use, is being moved to; None if it is not."""
        later = [unused for unused in self.unused_embedding_sets(active.collection) if unused.number > active.number]
        return later[-1] if later else None

    def all_unused_embedding_sets(self) -> list[str]:
        """Return the names of the embedding sets of all collections whose manifests say that they are not in use."""
        keys = (item.key for item in self.store.list(layout.EMBEDDING_SETS))
        return sorted(key.removeprefix(layout.EMBEDDING_SETS).removesuffix(".json") for key in keys)

    def create_embedding_set(self, active: EmbeddingSet, *, model: str, version: int, dim: int) -> EmbeddingSet:
        """Write the manifest of a new embedding set of a collection, given by its set in use, which is to be filled."""
        numbers = [unused.number for unused in self.unused_embedding_sets(active.collection)]
        number = 1 + max([active.number, *numbers])
        made = EmbeddingSet(active.collection, secrets.token_hex(4), model, version, dim, active.created, number)
        self._write(layout.embedding_set_key(made.name), made)
        return made

    def activate(self, filled: EmbeddingSet, active: EmbeddingSet) -> None:
        """Have a collection use an embedding set that was filled instead of `active`, in one write."""
        # First, so that a worker that dies here leaves an embedding set that is known.
        self._write(layout.embedding_set_key(active.name), active)
        self._write(layout.manifest_key(filled.collection), filled)
        self.store.delete([layout.embedding_set_key(filled.name)])

    # Segments and tombstones

    def segments(self, set_name: str) -> list[str]:
        """Return the names of an embedding set's segments, sorted."""
        return sorted(layout.segment_of(item.key) for item in self.store.list(layout.segments_prefix(set_name)))

    def segment_sizes(self, set_name: str) -> dict[str, int]:
        """Return the sizes of an embedding set's segments in bytes, by their names, sorted."""
        return {layout.segment_of(item.key): item.size for item in self.store.list(layout.segments_prefix(set_name))}

    def tombstones(self, set_name: str) -> set[tuple[str, int]]:
        """Return the rows that were deleted: segment and id."""
        found = self.tombstones_by_segment(set_name)
        return {(segment, image_id) for segment, ids in found.items() for image_id in ids}

    def tombstones_by_segment(self, set_name: str) -> defaultdict[str, set[int]]:
        """Return the ids of the deleted rows of each segment; empty for one that has none."""
        return self._tombstones.of_set(set_name)

    def tombstones_of(self, set_name: str, segment: str) -> set[int]:
        """Return the ids of a segment's deleted rows."""
        return self._tombstones.of_segment(set_name, segment)

    def add_tombstones(self, set_name: str, rows: Iterable[tuple[str, int]]) -> None:
        """Note that rows are deleted, for good: segments are never changed."""
        self._tombstones.add(set_name, rows)

    def remove_segments(self, set_name: str, segments: Sequence[str]) -> None:
        """Delete segments, then their tombstones."""
        self.store.delete([layout.segment_key(set_name, segment) for segment in segments])
        self._tombstones.remove_all(set_name, segments)

    def remove_tombstones(self, set_name: str, rows: Iterable[tuple[str, int]]) -> None:
        """Delete tombstones whose segment is gone."""
        self._tombstones.remove(set_name, rows)

    # Originals

    def original_digests(self, image_id: int) -> list[str]:
        """Return the digests of the originals of the images with an id: one, unless two share the id."""
        prefixes = (layout.originals_prefix(image_id), layout.links_prefix(image_id))
        found = {layout.original_of(item.key) for prefix in prefixes for item in self.store.list(prefix)}
        return sorted(digest for digest in found if layout.image_id(digest) == image_id)

    # Merges in progress

    def merges(self, set_name: str) -> dict[str, tuple[str, ...]]:
        """Return the segments that are being written, and what each is made of."""
        keys = [item.key for item in self.store.list(layout.merges_prefix(set_name))]
        return {
            layout.segment_of(key).removesuffix(".json"): _MERGE.loads(
                self.store.get(key), lambda values: tuple(values["inputs"]), place=key
            )
            for key in keys
        }

    def begin_merge(self, set_name: str, merged: str, inputs: Sequence[str]) -> None:
        """Note what a segment is going to be made of, before it is written."""
        self.store.put(layout.merge_key(set_name, merged), _MERGE.dumps({"inputs": list(inputs)}), _JSON)

    def end_merge(self, set_name: str, merged: str) -> None:
        """Note that a merge is done, or was given up before its segment was written."""
        self.store.delete([layout.merge_key(set_name, merged)])

    # Index generations

    def current_index(self, set_name: str) -> CurrentIndex | None:
        """Return which index generation is in use, None if none was made yet."""
        key = layout.current_index_key(set_name)
        try:
            data = self.store.get(key)
        except ObjectNotFound:
            return None
        return _CURRENT.loads(data, lambda values: CurrentIndex(**values), place=key)

    def set_current_index(self, set_name: str, current: CurrentIndex) -> None:
        """Switch to another index generation."""
        self.store.put(layout.current_index_key(set_name), _CURRENT.dumps(asdict(current)), _JSON)

    def next_generation(self, set_name: str) -> int:
        """Return a generation number that was never used, also where the generation in use is missing."""
        numbers = (layout.generation_of(item.key) for item in self.store.list(layout.indexes_prefix(set_name)))
        try:
            current = self.current_index(set_name)
        except TooNew:
            raise
        except Invalid:  # it is about to be written anew
            current = None
        return 1 + max([current.generation if current else 0, *(number for number in numbers if number is not None)])

    def set_index_report(self, set_name: str, report: IndexReport) -> None:
        """Write what was predicted and measured of an index generation."""
        data = _REPORT.dumps(report.to_json())
        self.store.put(layout.generation_report_key(set_name, report.generation), data, _JSON)

    def index_report(self, set_name: str, generation: int) -> IndexReport | None:
        """Return what was predicted and measured of an index generation; None for one that was never checked."""
        key = layout.generation_report_key(set_name, generation)
        try:
            data = self.store.get(key)
        except ObjectNotFound:
            return None
        return _REPORT.loads(data, IndexReport.from_json, place=key)

    def current_report(self, name: str) -> IndexReport | None:
        """Return the report on the index generation that a collection uses; None if none is, or it was never checked.

        Raises:
            NotFound: There is no such collection.
        """
        set_name = self.get(name).name
        current = self.current_index(set_name)
        return None if current is None else self.index_report(set_name, current.generation)

    def remove_generations(self, set_name: str, *, before: int) -> None:
        """Delete the generations with smaller numbers, and the reports on them."""
        keys = [item.key for item in self.store.list(layout.indexes_prefix(set_name))]
        numbers = {key: layout.generation_of(key) for key in keys}
        self.store.delete([key for key, number in numbers.items() if number is not None and number < before])

    def drop(self, embedding_set: EmbeddingSet) -> list[str]:
        """Delete an embedding set's segments, merges, tombstones, generations and map, its manifest last.

        The originals stay: other collections may hold them.

        Returns:
            The names of the segments that were deleted.
        """
        set_name = embedding_set.name
        segments = self.segments(set_name)
        prefixes = (
            layout.segments_prefix,
            layout.merges_prefix,
            layout.tombstones_prefix,
            layout.indexes_prefix,
            layout.maps_prefix,
        )
        for prefix in (of(set_name) for of in prefixes):
            self.store.delete([item.key for item in self.store.list(prefix)])
        active = self._active(embedding_set.collection)
        if active is not None and active.name == set_name:
            self.store.delete([layout.manifest_key(embedding_set.collection)])
            self.renames.forget(embedding_set.collection)
        self.store.delete([layout.embedding_set_key(set_name)])
        return segments
