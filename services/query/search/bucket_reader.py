"""Reads buckets: from memory where they were fetched before, the others from Redis, with the ends of streams."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from services.query.search.bucket_cache import BucketCache, Epoch, HeldBucket
from shared.state import BucketStore, FetchedBuckets


@dataclass(frozen=True, eq=False)
class ReadBuckets:
    """What buckets hold.

    Attributes:
        names: The names of the buckets.
        set_name: The embedding set that they belong to.
        epoch: That in which those from memory were fetched.
        held: The bucket of each name, None if it was not in memory.
        fetched: The buckets that were not, and the ends of the streams after these were read.
    """

    names: Sequence[bytes]
    set_name: str
    epoch: Epoch
    held: Sequence[HeldBucket | None]
    fetched: FetchedBuckets

    @property
    def from_memory(self) -> bool:
        """Whether any of them come from memory."""
        return len(self.fetched.sizes) < len(self.names)

    @cached_property
    def each_fetched(self) -> list[HeldBucket]:
        """The buckets that were fetched; each has a copy of its ids, so that it keeps no other's in memory."""
        ends = np.cumsum(self.fetched.sizes)
        starts = ends - self.fetched.sizes
        return [
            HeldBucket(self.fetched.ids[start:end].copy(), is_truncated)
            for start, end, is_truncated in zip(
                starts.tolist(), ends.tolist(), self.fetched.truncated.tolist(), strict=True
            )
        ]

    def joined(self) -> FetchedBuckets:
        """Return all of them, in the order of their names."""
        if not self.from_memory:
            return self.fetched
        fetched = iter(self.each_fetched)
        buckets = [bucket or next(fetched) for bucket in self.held]
        return FetchedBuckets(
            ids=np.concatenate([bucket.ids for bucket in buckets]),
            sizes=np.array([len(bucket.ids) for bucket in buckets], dtype=np.int64),
            truncated=np.array([bucket.is_truncated for bucket in buckets], dtype=np.bool_),
        )


class BucketReader:
    """Reads buckets from Redis, and holds them in a cache."""

    def __init__(self, buckets: BucketStore, cache: BucketCache) -> None:
        self._buckets, self._cache = buckets, cache

    def read(self, names: Sequence[bytes], set_name: str, epoch: Epoch, streams: Sequence[str]) -> ReadBuckets:
        """Return what different buckets hold.

        What comes from memory counts only if the embedding set is in the same epoch after the streams were read.

        Raises:
            Unavailable: Redis does not answer, which is asked even if all is in memory: for the ends of the streams.
        """
        cached = self._cache.of(set_name, epoch)
        held = [cached.get(name) for name in names]
        missing = [name for name, bucket in zip(names, held, strict=True) if bucket is None]
        self._cache.count(len(names) - len(missing), len(missing))
        return ReadBuckets(names, set_name, epoch, held, self._buckets.fetch(missing, streams=streams))

    def keep(self, read: ReadBuckets) -> None:
        """Hold what was fetched, of an embedding set that is still in the same epoch."""
        missing = [name for name, bucket in zip(read.names, read.held, strict=True) if bucket is None]
        if missing and self._cache.has_room:
            self._cache.keep(read.set_name, read.epoch, dict(zip(missing, read.each_fetched, strict=True)))
