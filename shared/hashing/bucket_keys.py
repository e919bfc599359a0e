"""Bucket keys: from a table's k slot numbers to one integer, and from that to the name of the bucket's set."""

import numpy as np

from shared.hashing.types import BucketKeys, HashingError, IntArray

KEY_BITS = 32
"""Width of a bucket key: among 200,000 buckets of a table, as a million images fill, about five pairs share a key."""

MAX_TABLES = 256


def slot_multipliers(hashes: int) -> BucketKeys:
    """Return one odd 64-bit multiplier per hash function, [hashes]: fixed numbers, the same for each family."""
    return _mix(np.arange(1, hashes + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)


def slot_sums(slots: IntArray, multipliers: BucketKeys) -> BucketKeys:
    """Return the sum of slot times multiplier modulo 2**64 over the last axis: int64 [..., hashes] to uint64 [...].

    It is linear: moving hash i by one slot adds multiplier i, so the key of a perturbed bucket costs one addition.
    """
    return np.asarray((slots.view(np.uint64) * multipliers).sum(axis=-1, dtype=np.uint64))


def bucket_keys(sums: BucketKeys) -> BucketKeys:
    """Return the bucket keys, below 2**32, of slot sums of any shape."""
    return _mix(sums) >> np.uint64(64 - KEY_BITS)


def key_names(prefix: bytes, keys: BucketKeys) -> list[bytes]:
    """Return the names of the buckets' sets: the prefix, a byte for the table, four for the key, big-endian.

    Args:
        prefix: What tells this index generation from all else on the server.
        keys: uint64 [n, tables], what `keys` gives, or `probes` transposed.

    Returns:
        n * tables names, all tables of the first row first.

    Raises:
        HashingError: The keys are not [n, tables] with at most 256 tables, or one has more than 32 bits.
    """
    if keys.ndim != 2 or keys.shape[1] > MAX_TABLES:
        raise HashingError(f"keys have shape {keys.shape}, expected [n, tables] with at most {MAX_TABLES} tables")
    if keys.size and int(keys.max()) >> KEY_BITS:
        raise HashingError(f"key {int(keys.max())} has more than {KEY_BITS} bits: pass what keys or probes gave")
    tails = np.empty(keys.shape, dtype=[("table", "u1"), ("key", ">u4")])
    tails["table"] = np.arange(keys.shape[1])
    tails["key"] = keys
    data, size = tails.tobytes(), tails.dtype.itemsize
    return [prefix + data[start : start + size] for start in range(0, len(data), size)]


def _mix(values: BucketKeys) -> BucketKeys:
    """Spread each bit of 64 over all: the output function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
