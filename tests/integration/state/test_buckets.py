"""Buckets on a real server and on a real cluster."""

from collections import Counter

import numpy as np
import pytest

from shared.state import BucketStore, Client


def members(redis: Client) -> dict[bytes, set[int]]:
    return {key: {int(member) for member in redis.smembers(key)} for key in redis.scan_iter(match=b"b:*", count=1000)}


def test_the_union_of_buckets_is_told_with_how_often_each_was_seen(redis: Client) -> None:
    buckets = BucketStore(redis)
    buckets.add([b"b:1", b"b:2", b"b:1", b"b:3"], [7, 7, 2**53 - 1, 5])
    found = buckets.candidates([b"b:1", b"b:2", b"b:none"])
    assert dict(zip(found.ids.tolist(), found.counts.tolist(), strict=True)) == {7: 2, 2**53 - 1: 1}
    assert found.ids.dtype == found.counts.dtype == np.int64
    for names in ([], [b"b:none"]):
        found = buckets.candidates(names)
        assert found.ids.tolist() == found.counts.tolist() == []
        assert found.ids.dtype == np.int64


def test_adding_and_removing_twice_is_adding_and_removing_once(redis: Client) -> None:
    buckets = BucketStore(redis)
    for _ in range(2):
        buckets.add([b"b:1", b"b:2"], [1, 1])
        buckets.add([b"b:1"], [2])
    assert members(redis) == {b"b:1": {1, 2}, b"b:2": {1}}
    for _ in range(2):
        buckets.remove([b"b:1", b"b:2"], [1, 1])
    assert members(redis) == {b"b:1": {2}}
    buckets.add([], [])
    with pytest.raises(ValueError, match="argument"):
        buckets.add([b"b:1"], [1, 2])


def test_ids_leave_whichever_buckets_hold_them(redis: Client) -> None:
    buckets = BucketStore(redis, limit=2)  # of what a search gets
    names = [b"b:%05d" % place for place in range(5000)]
    held = {name: {place, place % 7, 2**53 - 1} for place, name in enumerate(names)}
    buckets.add([name for name, ids in held.items() for _ in ids], [one for ids in held.values() for one in ids])
    buckets.add([b"b:other"], [3])
    for _ in range(2):
        buckets.remove_from_all([*names, b"b:none"], [3, 4000, 2**53 - 1, 10**9])
        assert members(redis) == {b"b:other": {3}} | {
            name: left for name, ids in held.items() if (left := ids - {3, 4000, 2**53 - 1})
        }
    buckets.remove_from_all(names, [])
    buckets.remove_from_all([], [3])
    assert members(redis)[b"b:other"] == {3}


@pytest.mark.parametrize("count", [4095, 4096, 4097, 10_000])
def test_no_bucket_is_left_out_of_a_large_batch(redis: Client, count: int) -> None:
    """Commands are sent some thousand at a time."""
    buckets = BucketStore(redis)
    names = [b"b:%05d" % place for place in range(count)]
    buckets.add(names, list(range(count)))
    assert members(redis) == {name: {place} for place, name in enumerate(names)}
    buckets.remove(names, list(range(count)))
    assert members(redis) == {}


@pytest.mark.parametrize("special", [bytes([byte]) for byte in b"*?[]\\^-\x00\n\xff"])
def test_dropping_takes_the_prefix_literally(redis: Client, special: bytes) -> None:
    buckets = BucketStore(redis)
    dropped = [b"b:" + special + tail for tail in (b"", b"1", b"22")]
    other = [b"b:x1", b"b:", b"x:" + special, b"b:xx"]
    buckets.add(dropped + other, [1] * 7)
    assert buckets.drop(b"b:" + special) == 3
    assert {key for key in redis.scan_iter(count=1000) if key.startswith((b"b:", b"x:"))} == set(other)


def test_dropping_keeps_what_is_to_be_kept(redis: Client) -> None:
    buckets = BucketStore(redis)
    names = [b"b:%d:%04d" % (generation, place) for generation in (1, 2, 3) for place in range(3000)]
    buckets.add(names, [1] * len(names))
    assert buckets.drop(b"b:", keep=b"b:2:") == 6000
    assert set(members(redis)) == {name for name in names if name.startswith(b"b:2:")}


def test_integer_ids_cost_few_bytes(redis: Client) -> None:
    """The server keeps a bucket as an array of integers up to far more than a bucket of ours holds."""
    BucketStore(redis).add([b"b:1"] * 2000, [2**52 + place for place in range(2000)])
    assert redis.object("encoding", b"b:1") == b"intset"
    assert redis.memory_usage(b"b:1", samples=0) < 2000 * 12


def test_counts_of_a_union_are_those_of_a_plain_count(redis: Client) -> None:
    rng = np.random.default_rng(0)
    names = [b"b:%d" % place for place in rng.integers(0, 40, 3000)]
    images = (2**52 + rng.integers(0, 500, 3000)).tolist()
    buckets = BucketStore(redis)
    buckets.add(names, images)
    wanted = sorted(set(names))[:25]
    plain = Counter(image for name, image in set(zip(names, images, strict=True)) if name in wanted)
    found = buckets.candidates(wanted)
    assert dict(zip(found.ids.tolist(), found.counts.tolist(), strict=True)) == plain
