"""LSH buckets as sets of integer ids: one set per table and bucket."""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from shared.index.connection import Client, guarded, servers
from shared.index.members import members

Ids = npt.NDArray[np.int64]

_NONE: Ids = np.empty(0, dtype=np.int64)

BUCKET_LIMIT = 20_000  # ids that a search takes from one bucket
_LARGE_KNOWN = 10_000  # names of buckets that are remembered as large
_PIPELINE = 4096  # commands sent at a time: large enough to hide the round trip, small enough to stay a few 100 kB


@dataclass(frozen=True, eq=False)
class Candidates:
    """What some buckets hold.

    Attributes:
        buckets: The ids of each, int64, in the order in which they were asked for.
        truncated: How many of them hold more than they gave.
    """

    buckets: Sequence[Ids]
    truncated: int

    @cached_property
    def ids(self) -> Ids:
        """The union: distinct ids, ascending, int64 [n]."""
        ids = np.sort(np.concatenate([_NONE, *self.buckets]))
        return ids[_first_of_each(ids)]

    @cached_property
    def counts(self) -> Ids:
        """In how many of the buckets each id was seen, int64 [n]."""
        ids = np.sort(np.concatenate([_NONE, *self.buckets]))
        return np.diff(np.append(np.flatnonzero(_first_of_each(ids)), len(ids)))

    @cached_property
    def first(self) -> Ids:
        """The place of the first bucket that each id was seen in, int64 [n]."""
        ids = np.concatenate([_NONE, *self.buckets])
        order = np.argsort(ids)
        places = np.repeat(np.arange(len(self.buckets)), [len(bucket) for bucket in self.buckets])[order]
        starts = np.flatnonzero(_first_of_each(ids[order]))
        return np.minimum.reduceat(places, starts) if len(starts) else _NONE

    def best(self, budget: int | None) -> Ids:
        """Return the ids, ascending; with a budget, at most so many: those that `most_seen` prefers."""
        if budget is None or len(self.ids) <= budget:
            return self.ids
        return np.sort(self.ids[most_seen(self.counts, self.first, budget)])


def most_seen(counts: Ids, first: Ids, budget: int) -> npt.NDArray[np.intp]:
    """Return the places of the `budget` candidates that were seen in most buckets, of these in the most promising.

    Candidates that do not differ in this are preferred in the order in which they are given. There are more of them
    than the budget, at least 1.
    """
    worth = ((counts.max() - counts) * (first.max() + 1) + first) * len(counts) + np.arange(len(counts))
    return np.argpartition(worth, budget - 1)[:budget]


def _first_of_each(ids: Ids) -> npt.NDArray[np.bool_]:
    """Return which of ascending ids differ from the one before."""
    first = np.ones(len(ids), dtype=np.bool_)
    np.not_equal(ids[1:], ids[:-1], out=first[1:])
    return first


class BucketStore:
    """Adds ids to buckets, removes them, and fetches the union of buckets. Every call may run twice.

    A bucket gives at most `limit` of its ids, some choice if it has more, so that no search drowns in one.
    """

    def __init__(self, client: Client, *, limit: int = BUCKET_LIMIT) -> None:
        self._redis = client
        self.limit = limit
        self._large: Set[bytes] = frozenset()  # buckets that had more the last time; never changed, only replaced

    def add(self, names: Sequence[bytes], ids: Sequence[int]) -> None:
        """Put ``ids[i]`` into the bucket ``names[i]``; both have one item per image and table."""
        self._each("SADD", names, ids)

    def remove(self, names: Sequence[bytes], ids: Sequence[int]) -> None:
        """Take ``ids[i]`` out of the bucket ``names[i]``."""
        self._each("SREM", names, ids)

    def _each(self, command: str, names: Sequence[bytes], ids: Sequence[int]) -> None:
        members: defaultdict[bytes, list[int]] = defaultdict(list)
        for name, image in zip(names, ids, strict=True):
            members[name].append(image)
        commands = iter(members.items())
        with guarded():
            while True:
                pipeline = self._redis.pipeline(transaction=False)
                for name, images in islice(commands, _PIPELINE):
                    pipeline.execute_command(command, name, *images)
                if not len(pipeline):
                    return
                pipeline.execute()

    def candidates(self, names: Sequence[bytes]) -> Candidates:
        """Return the union of buckets, by one pipeline."""
        return self.candidates_of([names])[0]

    def candidates_of(self, queries: Sequence[Sequence[bytes]]) -> list[Candidates]:
        """Return the union of the buckets of each query; a bucket of several queries is fetched once."""
        places = {name: place for place, name in enumerate(dict.fromkeys(chain.from_iterable(queries)))}
        with guarded():
            found = members(self._redis, list(places), limit=self.limit + 1, large=self._large)
        ends = np.cumsum(found.sizes)
        cut = found.sizes > self.limit
        buckets = np.split(found.ids, ends[:-1])
        if cut.any() or self._large:
            self._large = {name for name in self._large if name not in places}
            for name in (name for name, is_cut in zip(places, cut.tolist(), strict=True) if is_cut):
                buckets[places[name]] = buckets[places[name]][: self.limit]
                self._large = {*self._large, name} if len(self._large) < _LARGE_KNOWN else {name}
        chosen = [[places[name] for name in query] for query in queries]
        return [Candidates([buckets[place] for place in some], int(cut[some].sum())) for some in chosen]

    def drop(self, prefix: bytes, *, keep: bytes | None = None) -> int:
        """Delete every bucket whose name starts with `prefix`, but not with `keep`; returns how many there were."""
        pattern = b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^-" else bytes([byte]) for byte in prefix) + b"*"
        dropped = 0
        with guarded():
            for server in servers(self._redis):
                cursor = -1
                while cursor != 0:
                    cursor, names = server.scan(max(cursor, 0), match=pattern, count=2000)
                    names = [name for name in names if keep is None or not name.startswith(keep)]
                    if names:
                        pipeline = self._redis.pipeline(transaction=False)
                        for name in names:  # a command per key: in a cluster, keys lie in many slots
                            pipeline.unlink(name)
                        dropped += sum(pipeline.execute())
        return dropped
