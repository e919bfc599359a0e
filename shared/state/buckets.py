"""LSH buckets as sets of integer ids: one set per table and bucket."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shared.settings import BUCKET_LIMIT
from shared.sorted_numbers import places_among
from shared.state.connection import Client, guarded, servers
from shared.state.pieces import pieces
from shared.state.set_members import Members, change, members

Ids = npt.NDArray[np.int64]

_ALL = 2**31 - 1  # more members than a bucket has
_LARGE_KNOWN = 10_000  # names of buckets that are remembered as large


@dataclass(frozen=True, eq=False)
class Candidates:
    """The ids in the buckets of a query.

    Attributes:
        held: The ids of all buckets that were looked up together with these, int64.
        starts: Where among them the ids of each bucket of this query begin, int64 [buckets]; None: all are its.
        sizes: How many ids each bucket gave, int64 [buckets].
        truncated: How many of the buckets hold more than they gave.
    """

    held: Ids = field(repr=False)
    starts: Ids | None
    sizes: Ids
    truncated: int

    @cached_property
    def members(self) -> Ids:
        """The ids of all buckets, one bucket after the other, in the order of the query, int64."""
        return self.of(self.held)

    def of(self, held: Ids) -> Ids:
        """Return what belongs to the members, of what belongs to all that was looked up together."""
        if self.starts is None:
            return held
        places = np.repeat(self.starts - np.cumsum(self.sizes) + self.sizes, self.sizes)
        places += np.arange(len(places))
        return held[places]

    @cached_property
    def ids(self) -> Ids:
        """The union: distinct ids, ascending, int64 [n]."""
        ids = np.sort(self.members)
        return ids[_first_of_each(ids)]

    @cached_property
    def counts(self) -> Ids:
        """In how many of the buckets each id was seen, int64 [n]."""
        ids = np.sort(self.members)
        return np.diff(np.append(np.flatnonzero(_first_of_each(ids)), len(ids)))

    @cached_property
    def first(self) -> Ids:
        """The place of the first bucket that each id was seen in, int64 [n]."""
        order = np.argsort(self.members)
        places = np.repeat(np.arange(len(self.sizes)), self.sizes)[order]
        starts = np.flatnonzero(_first_of_each(self.members[order]))
        return np.minimum.reduceat(places, starts) if len(starts) else np.empty(0, dtype=np.int64)

    def best(self, budget: int | None) -> Ids:
        """Return the ids, ascending; with a budget, at most so many: those that `most_seen` prefers."""
        if budget is None or len(self.ids) <= budget:
            return self.ids
        return np.sort(self.ids[most_seen(self.counts, self.first, budget)])


@dataclass(frozen=True, eq=False)
class FetchedBuckets:
    """What some buckets hold.

    Attributes:
        ids: The ids of the first bucket, then those of the second one …, int64.
        sizes: How many ids each bucket gave, int64 [buckets].
        truncated: Which of them hold more than they gave, bool [buckets].
        ends: The ids of the last entries of the streams that were asked for, after the buckets were read.
    """

    ids: Ids
    sizes: Ids
    truncated: npt.NDArray[np.bool_]
    ends: tuple[str, ...] = ()

    def candidates_of(self, queries: Sequence[Sequence[int]]) -> list[Candidates]:
        """Return the candidates of each query, of which the places of its buckets are given, each once."""
        if len(queries) == 1 and list(queries[0]) == list(range(len(self.sizes))):
            return [Candidates(self.ids, None, self.sizes, int(np.count_nonzero(self.truncated)))]
        starts = np.cumsum(self.sizes) - self.sizes
        answers = []
        for query in queries:
            wanted = np.array(query, dtype=np.int64)
            truncated = int(np.count_nonzero(self.truncated[wanted]))
            answers.append(Candidates(self.ids, starts[wanted], self.sizes[wanted], truncated))
        return answers


def most_seen(counts: Ids, first: Ids, budget: int) -> npt.NDArray[np.intp]:
    """Return the places of the `budget` candidates that were seen in most buckets, of these in the most promising.

    Candidates that do not differ in this are preferred in the order in which they are given. There are more of them
    than the budget, at least 1.
    """
    worth = ((counts.max() - counts) * (first.max() + 1) + first) * len(counts) + np.arange(len(counts))
    return np.argpartition(worth, budget - 1)[:budget]


def _pattern(prefix: bytes) -> bytes:
    """Return the pattern of the names that start with a prefix."""
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^-" else bytes([byte]) for byte in prefix) + b"*"


def _first_of_each(ids: Ids) -> npt.NDArray[np.bool_]:
    """Return which of ascending ids differ from the one before."""
    first = np.ones(len(ids), dtype=np.bool_)
    np.not_equal(ids[1:], ids[:-1], out=first[1:])
    return first


def _first_of_sets(found: Members, limit: int) -> Members:
    """Return at most `limit` members of each set, the first ones."""
    starts = np.cumsum(found.sizes) - found.sizes
    within = np.arange(len(found.ids)) - np.repeat(starts, found.sizes)
    return Members(found.ids[within < limit], np.minimum(found.sizes, limit), found.ends)


class BucketStore:
    """Adds ids to buckets, removes them, and fetches the union of buckets. Every call may run twice.

    A bucket gives at most `limit` of its ids, some choice if it has more, so that no search drowns in one.
    """

    def __init__(self, client: Client, *, limit: int = BUCKET_LIMIT) -> None:
        self._redis = client
        self.limit = limit
        self._large: frozenset[bytes] = frozenset()  # buckets that had more the last time; never changed, only replaced

    def add(self, names: Sequence[bytes], ids: Sequence[int]) -> None:
        """Put ``ids[i]`` into the bucket ``names[i]``; both have one item per image and table."""
        self._each(b"SADD", names, ids)

    def remove(self, names: Sequence[bytes], ids: Sequence[int]) -> None:
        """Take ``ids[i]`` out of the bucket ``names[i]``."""
        self._each(b"SREM", names, ids)

    def remove_from_all(self, names: Sequence[bytes], ids: Sequence[int]) -> None:
        """Take ids out of whichever of some buckets hold them; all members of the buckets are read for it."""
        wanted = np.unique(np.array(ids, dtype=np.int64))
        for piece in pieces(names) if len(wanted) else ():
            with guarded():
                found = members(self._redis, piece, limit=_ALL)
            held = places_among(wanted, found.ids) >= 0
            buckets = np.repeat(np.arange(len(piece)), found.sizes)[held]
            self.remove([piece[place] for place in buckets.tolist()], found.ids[held].tolist())

    def _each(self, command: bytes, names: Sequence[bytes], ids: Sequence[int]) -> None:
        ids_by_bucket: defaultdict[bytes, list[int]] = defaultdict(list)
        for name, image_id in zip(names, ids, strict=True):
            ids_by_bucket[name].append(image_id)
        with guarded():
            change(self._redis, command, ids_by_bucket.items())

    def contain(self, names: Sequence[bytes], ids: Sequence[int]) -> list[bool]:
        """Return for each of some ids whether the bucket ``names[i]`` holds ``ids[i]``."""
        found: list[bool] = []
        with guarded():
            for piece in pieces(range(len(ids))):
                pipeline = self._redis.pipeline(transaction=False)
                for place in piece:
                    pipeline.sismember(names[place], str(ids[place]))
                found += [bool(flag) for flag in pipeline.execute()]
        return found

    def candidates(self, names: Sequence[bytes]) -> Candidates:
        """Return the union of buckets, by one pipeline."""
        found = self.fetch(list(dict.fromkeys(names)))
        return Candidates(found.ids, None, found.sizes, int(np.count_nonzero(found.truncated)))

    def fetch(self, names: Sequence[bytes], *, streams: Sequence[str] = ()) -> FetchedBuckets:
        """Return what buckets hold, each of them named once.

        The last entries of `streams` are read after the buckets, by a single server in the same round trip.
        """
        with guarded():
            found = members(self._redis, names, limit=self.limit + 1, large=self._large, streams=streams)
        cut = found.sizes > self.limit
        if cut.any() or self._large:
            self._remember_large(names, cut)
            found = _first_of_sets(found, self.limit)
        return FetchedBuckets(found.ids, found.sizes, cut, found.ends)

    def _remember_large(self, names: Sequence[bytes], cut: npt.NDArray[np.bool_]) -> None:
        """Note which of these buckets had more than they may give, and which had not."""
        large = {name for name, is_cut in zip(names, cut.tolist(), strict=True) if is_cut}
        kept = self._large.difference(names)
        self._large = kept | large if len(kept) + len(large) <= _LARGE_KNOWN else frozenset(large)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, Ids]]:
        """Yield the buckets whose names start with `prefix`, with all their ids, int64; some may come twice."""
        for server in servers(self._redis):
            cursor = -1
            while cursor != 0:
                with guarded():
                    cursor, names = server.scan(max(cursor, 0), match=_pattern(prefix), count=2000)
                    pipeline = self._redis.pipeline(transaction=False)
                    for name in names:
                        pipeline.smembers(name)
                    found = pipeline.execute()
                for name, ids in zip(names, found, strict=True):
                    yield name, np.array([int(image_id) for image_id in ids], dtype=np.int64)

    def drop(self, prefix: bytes, *, keep: bytes | None = None) -> int:
        """Delete every bucket whose name starts with `prefix`, but not with `keep`; returns how many there were."""
        dropped = 0
        with guarded():
            for server in servers(self._redis):
                cursor = -1
                while cursor != 0:
                    cursor, names = server.scan(max(cursor, 0), match=_pattern(prefix), count=2000)
                    names = [name for name in names if keep is None or not name.startswith(keep)]
                    if names:
                        pipeline = self._redis.pipeline(transaction=False)
                        for name in names:  # a command per key: in a cluster, keys lie in many slots
                            pipeline.unlink(name)
                        dropped += sum(pipeline.execute())
        return dropped
