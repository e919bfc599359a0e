"""Index generations: a trained hash family under a number, and the names of its buckets."""

import time
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from shared import hashing
from shared.errors import Invalid, ObjectNotFound
from shared.state import BucketStore
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from shared.storage.object_store import ObjectStore, StoredObject

_KEPT = 32  # generations in memory
_FRESH_S = 1.0  # after which the store is asked whether it has a generation as it was


@dataclass(frozen=True)
class Generation:
    """A hash family of a collection; written once, never changed."""

    embedding_set: EmbeddingSet
    number: int
    family: hashing.HashFamily

    @classmethod
    def load(cls, store: ObjectStore, embedding_set: EmbeddingSet, number: int) -> Self:
        """Return a generation from the object store.

        Raises:
            ObjectNotFound: There is no such generation.
            Invalid: The object is broken.
        """
        return cls(embedding_set, number, hashing.loads(store.get(layout.generation_key(embedding_set.name, number))))

    def save(self, store: ObjectStore) -> None:
        """Write the generation to the object store."""
        store.put(layout.generation_key(self.embedding_set.name, self.number), hashing.dumps(self.family))

    @property
    def prefix(self) -> bytes:
        """What the names of all buckets of this generation start with."""
        return generation_prefix(self.embedding_set, self.number)

    def budget(self, size: int) -> int | None:
        """Return how many candidates of a collection of `size` are ranked at most; None for all."""
        share = self.family.parameters().get("budget_share")
        return None if share is None else max(1, round(share * size))

    def buckets(self, vectors: npt.NDArray[np.float32]) -> list[bytes]:
        """Return the buckets of embeddings, float32 [n, dim]: n × tables names, the tables of the first one first."""
        return hashing.key_names(self.prefix, self.family.keys(vectors))

    def every_bucket(self) -> list[bytes] | None:
        """Return all buckets that there may be; None if they are too many to be named."""
        keys = self.family.every_key()
        return None if keys is None else hashing.key_names(self.prefix, keys)

    def probed(self, vector: npt.NDArray[np.float32], probes: int | None = None) -> list[bytes]:
        """Return the distinct buckets to look into for a query, float32 [dim]."""
        return self.probed_by_each(vector[np.newaxis], probes)[0]

    def probed_by_each(self, vectors: npt.NDArray[np.float32], probes: int | None = None) -> list[list[bytes]]:
        """Return what `probed` does for each of some queries, float32 [n, dim]."""
        keys = self.family.probes_of_each(vectors, probes).transpose(0, 2, 1)  # [n, probes, tables]
        names = hashing.key_names(self.prefix, keys.reshape(-1, self.family.tables))
        each = keys.shape[1] * keys.shape[2]
        return [list(dict.fromkeys(names[start : start + each])) for start in range(0, len(names), each)]

    def add(self, buckets: BucketStore, ids: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> None:
        """Put images into their buckets: ids int64 [n], embeddings float32 [n, dim]."""
        buckets.add(self.buckets(vectors), np.repeat(ids, self.family.tables).tolist())

    def remove(self, buckets: BucketStore, ids: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> None:
        """Take images out of their buckets: ids int64 [n], embeddings float32 [n, dim]."""
        buckets.remove(self.buckets(vectors), np.repeat(ids, self.family.tables).tolist())


def generation_prefix(embedding_set: EmbeddingSet, number: int) -> bytes:
    """Return what the names of all buckets of a generation start with."""
    return collection_prefix(embedding_set) + number.to_bytes(2, "big")


def collection_prefix(embedding_set: EmbeddingSet) -> bytes:
    """Return what the names of all buckets of an embedding set start with: short, since there are many."""
    return b"b:" + bytes.fromhex(embedding_set.tag)


def generation_of_bucket(embedding_set: EmbeddingSet, bucket: bytes) -> int:
    """Return the number of the generation that a bucket of an embedding set belongs to, by the bucket's name."""
    start = len(collection_prefix(embedding_set))
    return int.from_bytes(bucket[start : start + 2], "big")


@dataclass(frozen=True)
class _Kept:
    """A generation in memory, the line of the store's listing that it was read by, and when the listing was read."""

    generation: Generation
    stored: StoredObject | None
    seen: float


class GenerationCache:
    """Loads generations from the object store, and keeps some for as long as the store has them as they were.

    A generation never changes, but after a restore, the next one may get a number that was used after the backup. A
    rename gives the embedding set another name, and keeps its tag.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._kept: dict[tuple[EmbeddingSet, int], _Kept] = {}

    def get(self, embedding_set: EmbeddingSet, number: int) -> Generation:
        """Return a generation, as it was a moment ago.

        Raises:
            Invalid: The generation is missing or damaged; the message names the remedy.
        """
        key = (embedding_set, number)
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept.seen <= _FRESH_S:
            return kept.generation
        seen = time.monotonic()
        stored = next(self._store.list(layout.generation_key(embedding_set.name, number)), None)
        if kept is None or kept.stored != stored:
            try:
                generation = Generation.load(self._store, embedding_set, number)
            except (ObjectNotFound, Invalid) as error:
                self._kept.pop(key, None)
                collection = embedding_set.collection
                raise Invalid(
                    f"generation {number} of the index of {collection!r} cannot be read: {error}; "
                    f"`artseek rebuild --collection {collection} --fit` makes another one"
                ) from error
            if len(self._kept) >= _KEPT:
                self._kept.clear()
        else:
            generation = kept.generation
        self._kept[key] = _Kept(generation, stored, seen)
        return generation
