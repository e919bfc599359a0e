"""Buckets in memory: only those of the present epoch count, and they take no more room than is given."""

from collections.abc import Sequence

import numpy as np

from services.query.search.bucket_cache import BucketCache, HeldBucket

FIRST, SECOND = (0, 0), (0, 1)


def some(names: Sequence[str], size: int = 3) -> dict[bytes, HeldBucket]:
    return {name.encode(): HeldBucket(np.arange(size), is_truncated=False) for name in names}


def test_buckets_of_the_same_epoch_are_held_together() -> None:
    cache = BucketCache(1)
    cache.keep("art", FIRST, some("ab"))
    cache.keep("art", FIRST, some("bc"))
    assert sorted(cache.of("art", FIRST)) == [b"a", b"b", b"c"]
    assert cache.of("music", FIRST) == {}


def test_of_another_epoch_nothing_is_held() -> None:
    cache = BucketCache(1)
    cache.keep("art", FIRST, some("ab"))
    assert cache.of("art", SECOND) == {}
    cache.keep("art", SECOND, some("c"))
    assert sorted(cache.of("art", SECOND)) == [b"c"]
    assert cache.of("art", FIRST) == {}


def test_what_was_added_to_least_lately_goes_first_and_no_more_is_held_than_there_is_room_for() -> None:
    cache = BucketCache(1)
    cache.keep("old", FIRST, some("a", 40_000))
    cache.keep("new", FIRST, some("b", 40_000))
    cache.keep("old", FIRST, some("c", 40_000))
    cache.keep("last", FIRST, some("d", 40_000))  # of 320 kB each, three fit
    assert [len(cache.of(name, FIRST)) for name in ("old", "new", "last")] == [2, 0, 1]
    cache.keep("last", FIRST, some("efgh", 30_000))
    assert [len(cache.of(name, FIRST)) for name in ("old", "new")] == [0, 0]
    taken = sum(bucket.size for bucket in cache.of("last", FIRST).values())
    assert 0 < taken <= 2**20


def test_a_bucket_that_comes_again_is_counted_once() -> None:
    cache = BucketCache(1)
    for _ in range(50):
        cache.keep("art", FIRST, some("a", 40_000))
    cache.keep("art", FIRST, some("b", 40_000))
    assert sorted(cache.of("art", FIRST)) == [b"a", b"b"]


def test_without_room_nothing_is_held() -> None:
    cache = BucketCache(0)
    cache.keep("art", FIRST, some("a"))
    assert cache.of("art", FIRST) == {}
    assert not cache.has_room
