"""Buckets of the index that were fetched before, held in memory for as long as nothing says that they have changed.

Redis holds the truth. Whoever adds to a bucket, or takes from it, announces that afterwards in the stream of changes,
and every search asks where that stream ends. So a bucket that was fetched before is as good as one that is fetched now
if nothing was announced of its embedding set since: its *epoch* is still the same.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from services.query.replica.mapped_segment import Ids

Epoch = tuple[int, int]

_MEGABYTE: Final = 2**20
_EACH: Final = 300  # bytes that a bucket takes beside its ids
_DROPPED: Final = 0.1  # of the buckets, when there is no room: the ones that came first


@dataclass(frozen=True, slots=True)
class HeldBucket:
    """The ids that a bucket gave, int64, and whether it holds more."""

    ids: Ids
    is_truncated: bool

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return _EACH + int(self.ids.nbytes)


class _Held:
    """The buckets of one embedding set in one epoch."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self.buckets: dict[bytes, HeldBucket] = {}
        self.size = 0


class BucketCache:
    """Holds buckets in so many megabytes; 0: none.

    `on_read` is told of each search how many of its buckets were in memory, and how many were not.
    """

    def __init__(self, megabytes: int, on_read: Callable[[int, int], None] | None = None) -> None:
        self._limit = megabytes * _MEGABYTE
        self._lock = threading.Lock()
        self._sets: dict[str, _Held] = {}
        self._on_read = on_read

    @property
    def has_room(self) -> bool:
        """Whether anything is held at all."""
        return self._limit > 0

    @property
    def size(self) -> int:
        """How many bytes the buckets take."""
        return sum(held.size for held in list(self._sets.values()))

    def of(self, set_name: str, epoch: Epoch) -> Mapping[bytes, HeldBucket]:
        """Return the buckets of an embedding set that are held; some may go while they are looked at."""
        held = self._sets.get(set_name)
        return {} if held is None or held.epoch != epoch else held.buckets

    def count(self, held: int, missing: int) -> None:
        """Count buckets that a search looked into: those that were held, and those that were not."""
        if self._on_read is not None:
            self._on_read(held, missing)

    def keep(self, set_name: str, epoch: Epoch, buckets: Mapping[bytes, HeldBucket]) -> None:
        """Hold buckets that were fetched in an epoch, in which nothing was announced of their embedding set."""
        added = sum(bucket.size for bucket in buckets.values())
        if not buckets or added > self._limit:
            return
        with self._lock:
            held = self._sets.pop(set_name, None)
            if held is None or held.epoch != epoch:
                held = _Held(epoch)
            self._sets[set_name] = held  # the last: it is in use
            for name in buckets.keys() & held.buckets.keys():
                held.size -= held.buckets[name].size
            held.buckets |= buckets
            held.size += added
            self._make_room(held)

    def _make_room(self, kept: _Held) -> None:
        """Let go of the embedding sets that were not added to for longest, then of the first buckets of this one."""
        total = self.size
        for name in list(self._sets)[:-1]:
            if total <= self._limit:
                return
            total -= self._sets.pop(name).size
        while kept.size > self._limit:
            for bucket in list(islice(kept.buckets, max(1, int(_DROPPED * len(kept.buckets))))):
                kept.size -= kept.buckets.pop(bucket).size
