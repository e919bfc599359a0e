"""How an index is measured: recall@10, the share of the vectors it compares, and time, at several efforts.

All are given the same queries: one at a time on one thread for the latency, all at once on every core for the
throughput.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from benchmarks.dataset import Dataset
from benchmarks.memory_watch import memory_of
from benchmarks.simulation import Rows, Vectors

_LATENCY_S, _MIN_LATENCIES = 4.0, 20  # how long single queries are timed at one effort, and how many at least
_SATURATED_RECALL = 0.9995  # beyond which no more effort is measured


class Skipped(Exception):
    """An index that cannot be measured here; the message says why."""


class Index(Protocol):
    """An index under test, of float32 [n, dim] vectors of length 1. `threads` are those that it may use."""

    effort_name: str
    """What an effort is, such as the name of the library's parameter."""

    def build(self, vectors: Vectors, threads: int) -> dict[str, Any]:
        """Build the index and return what is worth knowing of it, of JSON's types.

        Raises:
            Skipped: What it takes is missing.
        """

    def efforts(self) -> Sequence[int]:
        """Return the efforts to measure, rising."""

    def set_effort(self, effort: int, threads: int) -> None:
        """Search with this effort from now on."""

    def search(self, query: Vectors) -> Rows:
        """Return the rows of the 10 nearest that it finds: float32 [dim] to int64 [at most 10]."""

    def search_batch(self, queries: Vectors) -> Rows:
        """Return the rows for many queries: float32 [q, dim] to int64 [q, 10], -1 where there are fewer."""

    def mean_compared(self, queries: Vectors) -> float | None:
        """Return how many vectors, in the mean, a query is compared with in full; None if the index does not tell."""

    def mean_lookups(self, queries: Vectors) -> float | None:
        """Return how many buckets, lists or cells a query looks into, in the mean; None if the index has none."""

    def outside_bytes(self) -> int | None:
        """Return the bytes that the index takes outside of this process, None if it takes none there."""


@dataclass(frozen=True)
class Point:
    """What an index does at one effort.

    Attributes:
        effort: The effort.
        recall: Mean recall@10.
        median_ms: Median latency of single queries, in milliseconds.
        p95_ms: Their 95th percentile.
        queries_per_second: Queries answered a second, all at once on every core.
        candidate_share: Share of the vectors that a query is compared with in full; None if the index does not tell.
        lookups: Buckets, lists or cells that a query looks into; None if the index has none.
        chosen: Whether it is the effort that the index itself chose for the target.
    """

    effort: int
    recall: float
    median_ms: float
    p95_ms: float
    queries_per_second: float
    candidate_share: float | None
    lookups: float | None
    chosen: bool = False


@dataclass(frozen=True)
class IndexResult:
    """What was measured of an index on one dataset.

    Attributes:
        index: The name it is shown under.
        dataset: Name of the dataset.
        count: Vectors of the dataset.
        dim: Components of a vector.
        ours: Whether it is one of this project's hash families.
        effort_name: What an effort is.
        build_s: Seconds that building took.
        bytes_per_vector: Memory that the index takes.
        details: What `Index.build` returned.
        points: What it does at each effort.
        skipped: Why there are no points.
    """

    index: str
    dataset: str
    count: int
    dim: int
    ours: bool = False
    effort_name: str = ""
    build_s: float = 0.0
    bytes_per_vector: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    skipped: str = ""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "IndexResult":
        """Return what `asdict` gave."""
        return cls(**{**value, "points": tuple(Point(**point) for point in value["points"])})

    def best_point(self, target: float) -> Point | None:
        """Return the point the index chose, or the fastest that reaches the target, or that of the best recall."""
        if not self.points:
            return None
        chosen = [point for point in self.points if point.chosen]
        reaching = [point for point in self.points if point.recall >= target]
        if chosen or reaching:
            return chosen[0] if chosen else min(reaching, key=lambda point: point.median_ms)
        return max(self.points, key=lambda point: point.recall)

    def candidate_share_at(self, recall: float) -> float | None:
        """Return the share compared at a recall, between two points by the logarithm; None where it is not reached."""
        points = sorted((point.recall, point.candidate_share) for point in self.points if point.candidate_share)
        for (low, less), (high, more) in pairwise(points):
            if low < recall <= high:
                return float(np.exp(np.interp(recall, (low, high), np.log((less, more)))))
        return None


def measure_index(index: Index, dataset: Dataset, *, threads: int) -> dict[str, Any]:
    """Build an index and measure it at its efforts; returns the fields of `IndexResult` that this tells."""
    vectors, queries = dataset.vectors, dataset.queries
    before, started = memory_of([os.getpid()]).anonymous, time.perf_counter()
    details = index.build(vectors, threads)
    build_s = time.perf_counter() - started
    outside = index.outside_bytes()
    taken = memory_of([os.getpid()]).anonymous - before if outside is None else outside
    points: list[Point] = []
    for effort in index.efforts():
        index.set_effort(effort, 1)
        latencies = _latencies(index, queries)
        index.set_effort(effort, threads)
        started = time.perf_counter()
        rows = index.search_batch(queries)
        seconds = time.perf_counter() - started
        compared = index.mean_compared(queries)
        points.append(
            Point(
                effort=effort,
                recall=dataset.recall(rows),
                median_ms=float(np.median(latencies)) * 1e3,
                p95_ms=float(np.percentile(latencies, 95)) * 1e3,
                queries_per_second=len(queries) / seconds,
                candidate_share=None if compared is None else compared / len(vectors),
                lookups=index.mean_lookups(queries),
                chosen=effort == details.get("chosen"),
            )
        )
        if points[-1].recall > _SATURATED_RECALL:
            break
    return {
        "effort_name": index.effort_name,
        "build_s": build_s,
        "bytes_per_vector": taken / len(vectors),
        "details": details,
        "points": [asdict(point) for point in points],
    }


def _latencies(index: Index, queries: Vectors) -> list[float]:
    """Return the seconds that queries take one by one, after a few that do not count."""
    for query in queries[:5]:
        index.search(query)
    latencies: list[float] = []
    until = time.perf_counter() + _LATENCY_S
    for query in queries:
        if time.perf_counter() > until and len(latencies) >= _MIN_LATENCIES:
            break
        started = time.perf_counter()
        index.search(query)
        latencies.append(time.perf_counter() - started)
    return latencies
