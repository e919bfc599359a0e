"""Vectors that hash families are tried on, and what a family finds among them, by brute force."""

from collections import Counter, defaultdict
from itertools import chain

import numpy as np
import numpy.typing as npt

from shared.hashing import FloatArray, HashFamily
from shared.search_limits import Metric

DIM = 96

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Buckets = dict[tuple[int, int], list[int]]


def clustered(seed: int, n: int, dim: int = DIM) -> FloatArray:
    """Points of 40 clusters of unlike size and density in 16 dimensions, turned into `dim` with a little noise."""
    layout = np.random.default_rng(77)
    centres = layout.standard_normal((40, 16)) * np.linspace(2, 0.7, 16)
    turn = np.linalg.qr(layout.standard_normal((dim, 16)))[0].T
    shares = layout.dirichlet(np.ones(40))
    radii = layout.uniform(0.3, 0.9, 40)
    rng = np.random.default_rng(seed)
    cluster = rng.choice(40, n, p=shares)
    points = centres[cluster] + radii[cluster, None] * rng.standard_normal((n, 16))
    rows = points @ turn + 0.05 * rng.standard_normal((n, dim)) + 1.0
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def distances(vectors: Vectors, query: FloatArray, metric: Metric = "cosine") -> npt.NDArray[np.float64]:
    """The distances of vectors from a query, in double precision: float64 [n]."""
    points, target = vectors.astype(np.float64, copy=False), query.astype(np.float64)
    if metric == "euclidean":
        return _lengths(points - target)
    lengths = _lengths(points) * np.linalg.norm(target)
    return np.asarray(1 - np.divide(points @ target, lengths, out=np.zeros(len(points)), where=lengths > 0))


def _lengths(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", points, points)))


def nearest(vectors: Vectors, query: FloatArray, k: int = 10, metric: Metric = "cosine") -> set[int]:
    """The rows nearest to a query."""
    away = distances(vectors, query, metric)
    return set(np.argpartition(away, k)[:k].tolist()) if k < len(away) else set(range(len(away)))


def buckets_of(keys: npt.NDArray[np.uint64]) -> Buckets:
    """The rows of each bucket, by table and key, from the keys of all rows, [n, tables]."""
    buckets: Buckets = defaultdict(list)
    for row, each in enumerate(keys.tolist()):
        for place in enumerate(each):
            buckets[place].append(row)
    return buckets


def candidates(keys: npt.NDArray[np.uint64] | Buckets, probes: npt.NDArray[np.uint64]) -> set[int]:
    """The rows in any of the buckets that a query looks into, [tables, probes]."""
    return set(kept(keys, probes, None))


def kept(keys: npt.NDArray[np.uint64] | Buckets, probes: npt.NDArray[np.uint64], budget: int | None) -> list[int]:
    """The `budget` candidates in most buckets, of these those whose first bucket comes earliest, all tables in turn."""
    buckets = keys if isinstance(keys, dict) else buckets_of(keys)
    # The first probe of each table, then the second ones; a bucket that comes twice counts once.
    looked = dict.fromkeys((table, key) for bucket in probes.T.tolist() for table, key in enumerate(bucket))
    counts = Counter(chain.from_iterable(buckets.get(place, ()) for place in looked))
    return sorted(counts, key=lambda row: -counts[row])[:budget]  # a counter keeps the order of the first


def measured(
    family: HashFamily,
    vectors: FloatArray,
    queries: FloatArray,
    probes: int | None = None,
    *,
    metric: Metric = "cosine",
    budget: int | None = None,
) -> tuple[float, float]:
    """Return recall@10 against the exact scan, and the mean share of the vectors that are candidates."""
    buckets, points = buckets_of(family.keys(vectors)), vectors.astype(np.float64)
    recalls, shares = [], []
    for query in queries:
        found = set(kept(buckets, family.probes(query, probes), budget))
        neighbours = nearest(points, query, min(10, len(vectors)), metric)
        recalls.append(len(neighbours & found) / len(neighbours))
        shares.append(len(found) / len(vectors))
    return float(np.mean(recalls)), float(np.mean(shares))
