"""How an index is measured: recall@10, the share of the vectors it compares, and time, at several efforts.

All are given the same queries: one at a time on one thread for the latency, all at once on every core for the
throughput.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.simulation import Rows, Vectors
from shared.evaluation.retrieval_metrics import recall_at_k

K = 10
_BLOCK = 16_384  # vectors compared with all queries at a time
_TIE = 2e-6  # similarities in float32 that differ by less are one: which of them comes tenth is chance
_LATENCY_S, _LATENCY_LEAST = 4.0, 20  # how long single queries are timed at one effort, and how many at least
_SATURATED = 0.9995  # recall beyond which no more effort is measured


class LeftOut(Exception):
    """An index that cannot be measured here; the message says why."""


class Index(Protocol):
    """An index under test, of float32 [n, dim] vectors of length 1. `threads` are those that it may use."""

    effort: str
    """What an effort is, such as the name of the library's parameter."""

    def build(self, vectors: Vectors, threads: int) -> dict[str, Any]:
        """Build the index and return what is worth knowing of it, of JSON's types.

        Raises:
            LeftOut: What it takes is missing.
        """

    def efforts(self) -> Sequence[int]:
        """Return the efforts to measure, rising."""

    def use(self, effort: int, threads: int) -> None:
        """Search with this effort from now on."""

    def search(self, query: Vectors) -> Rows:
        """Return the rows of the 10 nearest that it finds: float32 [dim] to int64 [at most 10]."""

    def search_all(self, queries: Vectors) -> Rows:
        """Return the rows for many queries: float32 [q, dim] to int64 [q, 10], -1 where there are fewer."""

    def compared(self, queries: Vectors) -> float | None:
        """Return how many vectors, in the mean, a query is compared with in full; None if nobody tells."""

    def lookups(self, queries: Vectors) -> float | None:
        """Return how many buckets, lists or cells a query looks into, in the mean; None if it has none."""

    def size(self) -> int | None:
        """Return the bytes it takes outside of this process, None if it takes none there."""


@dataclass(frozen=True)
class Point:
    """What an index does at one effort."""

    effort: int
    recall: float
    median_ms: float
    p95_ms: float
    per_second: float
    share: float | None
    lookups: float | None
    chosen: bool = False
    """Whether it is the effort that the index itself chose for the target."""


@dataclass(frozen=True)
class Measured:
    """An index on one set of vectors. `left_out` says why there are no points."""

    index: str
    vectors: str
    count: int
    dim: int
    ours: bool = False
    effort: str = ""
    build_s: float = 0.0
    bytes_per_vector: float | None = None
    about: dict[str, Any] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    left_out: str = ""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Measured":
        """Return what `asdict` gave."""
        return cls(**{**value, "points": tuple(Point(**point) for point in value["points"])})

    def best(self, target: float) -> Point | None:
        """Return the point to be shown: the one the index chose, else the fastest that reaches the target, or most."""
        if not self.points:
            return None
        chosen = [point for point in self.points if point.chosen]
        reaching = [point for point in self.points if point.recall >= target]
        if chosen or reaching:
            return chosen[0] if chosen else min(reaching, key=lambda point: point.median_ms)
        return max(self.points, key=lambda point: point.recall)

    def share_at(self, target: float) -> float | None:
        """Return the share compared at a recall, between two points by the logarithm; None where it is not reached."""
        points = sorted((point.recall, point.share) for point in self.points if point.share)
        for (low, less), (high, more) in pairwise(points):
            if low < target <= high:
                return float(np.exp(np.interp(target, (low, high), np.log((less, more)))))
        return None


@dataclass(frozen=True)
class Data:
    """Vectors and queries in files of one folder, and the similarity of each query to its 10th nearest."""

    name: str
    folder: Path

    @classmethod
    def write(cls, name: str, folder: Path, vectors: Vectors, queries: Vectors) -> "Data":
        """Write vectors and queries, float32 of length 1, and compare each with each."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "queries.npy", queries)
        np.save(folder / "tenth.npy", tenth_similarity(vectors, queries))
        return cls(name, folder)

    @property
    def vectors(self) -> Vectors:
        """The vectors, float32 [n, dim], mapped from their file."""
        return np.asarray(np.load(self.folder / "vectors.npy", mmap_mode="r"))

    @property
    def queries(self) -> Vectors:
        """The queries, float32 [q, dim]."""
        return np.asarray(np.load(self.folder / "queries.npy"))

    def recall(self, rows: Rows) -> float:
        """Return the recall@10 of answers, int64 [q, 10]: hits are as near as the 10th nearest, whichever that is."""
        queries, tenth = self.queries, np.load(self.folder / "tenth.npy")
        distances = np.full(rows.shape, np.inf)
        for query, some, its in zip(queries, rows, distances, strict=True):
            distinct = np.unique(some[some >= 0])
            its[: len(distinct)] = -(self.vectors[distinct] @ query)
        wanted = np.full(len(queries), min(K, len(self.vectors)))
        return float(recall_at_k(distances, -tenth, wanted, tie=_TIE).mean())


def tenth_similarity(vectors: Vectors, queries: Vectors) -> npt.NDArray[np.float32]:
    """Return each query's inner product with its 10th nearest vector, or its last: float32 [q], by an exact scan."""
    best = np.full((len(queries), K), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):
        some = np.concatenate([best, queries @ vectors[start : start + _BLOCK].T], axis=1)
        best = np.partition(some, -K, axis=1)[:, -K:]
    best.sort(axis=1)
    return np.asarray(best[:, max(0, K - len(vectors))])


def measure(index: Index, data: Data, *, threads: int) -> dict[str, Any]:
    """Build an index and measure it at its efforts; returns the fields of `Measured` that this tells."""
    vectors, queries = data.vectors, data.queries
    before, started = anonymous_bytes(os.getpid()), time.perf_counter()
    about = index.build(vectors, threads)
    build_s = time.perf_counter() - started
    outside = index.size()
    taken = anonymous_bytes(os.getpid()) - before if outside is None else outside
    points: list[Point] = []
    for effort in index.efforts():
        index.use(effort, 1)
        times = _latencies(index, queries)
        index.use(effort, threads)
        started = time.perf_counter()
        rows = index.search_all(queries)
        seconds = time.perf_counter() - started
        compared = index.compared(queries)
        points.append(
            Point(
                effort=effort,
                recall=data.recall(rows),
                median_ms=float(np.median(times)) * 1e3,
                p95_ms=float(np.percentile(times, 95)) * 1e3,
                per_second=len(queries) / seconds,
                share=None if compared is None else compared / len(vectors),
                lookups=index.lookups(queries),
                chosen=effort == about.get("chosen"),
            )
        )
        if points[-1].recall > _SATURATED:
            break
    return {
        "effort": index.effort,
        "build_s": build_s,
        "bytes_per_vector": taken / len(vectors),
        "about": about,
        "points": [asdict(point) for point in points],
    }


def _latencies(index: Index, queries: Vectors) -> list[float]:
    """Return the seconds that queries take one by one, after a few that do not count."""
    for query in queries[:5]:
        index.search(query)
    times: list[float] = []
    until = time.perf_counter() + _LATENCY_S
    for query in queries:
        if time.perf_counter() > until and len(times) >= _LATENCY_LEAST:
            break
        started = time.perf_counter()
        index.search(query)
        times.append(time.perf_counter() - started)
    return times


def anonymous_bytes(pid: int) -> int:
    """Return the resident memory of a process that is no page of a file, in bytes; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
