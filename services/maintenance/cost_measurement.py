"""Measures what a search costs on the running store: the cost model that the tuner prices families by."""

import secrets
import statistics
import time
from collections.abc import Callable

import numpy as np

from shared.state import BucketStore
from shared.tuning import CostModel

_REPEATS = 9
_BUCKETS, _FEW, _MANY = 64, 32, 512  # scratch buckets, and the ids of those asked for each term
_ARRAY = 64 * 2**20  # bytes that rows are gathered from: more than a processor's cache holds
_GATHERED = 2048
_HASHED = (16_384, 128)


def measure(buckets: BucketStore, dim: int) -> CostModel:
    """Return the cost model of this machine and store, for embeddings of `dim` components.

    Scratch buckets under a prefix that no collection has are filled, asked for and emptied again, which deletes them.

    Raises:
        IndexUnavailable: The index does not answer.
    """
    rng = np.random.default_rng(0)
    prefix = b"cost:" + secrets.token_bytes(8)
    names = [prefix + place.to_bytes(2, "big") for place in range(2 * _BUCKETS)]
    small, large = names[:_BUCKETS], names[_BUCKETS:]
    filled = [name for name in small for _ in range(_FEW)] + [name for name in large for _ in range(_MANY)]
    ids = rng.integers(1, 2**53, len(filled)).tolist()
    buckets.add(filled, ids)
    try:
        one = _ms(lambda: buckets.candidates(small[:1]))
        few = _ms(lambda: buckets.candidates(small))
        many = _ms(lambda: buckets.candidates(large))
    finally:
        buckets.remove(filled, ids)
    member = max(0.0, many - few) / (_BUCKETS * (_MANY - _FEW))
    lookup = max(0.0, few - one - (_BUCKETS - 1) * _FEW * member) / (_BUCKETS - 1)
    return CostModel(
        base_ms=max(0.0, one - lookup - _FEW * member),
        lookup_ms=lookup,
        member_ms=member,
        candidate_ms=_candidate_ms(dim, rng),
        hash_ms=_hash_ms(rng),
    )


def _candidate_ms(dim: int, rng: np.random.Generator) -> float:
    vectors = np.zeros((max(_GATHERED, _ARRAY // (4 * dim)), dim), dtype=np.float32)
    vectors[:, 0] = 1.0
    query = np.ones(dim, dtype=np.float32)
    rows = np.sort(rng.integers(0, len(vectors), _GATHERED))
    return _ms(lambda: vectors[rows] @ query) / _GATHERED


def _hash_ms(rng: np.random.Generator) -> float:
    centroids = rng.random(_HASHED, dtype=np.float32)
    query = np.ones(_HASHED[1], dtype=np.float32)
    return _ms(lambda: np.argpartition(centroids @ query, -64)) / (centroids.size / 1e6)


def _ms(call: Callable[[], object]) -> float:
    """Return the median time of a call, in milliseconds."""
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)
