"""Ranking: rows of a view by their similarity to queries, exactly."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from services.query.replica.mapped_segment import MappedSegment, Rows, StoredVectors, Vectors
from services.query.replica.view import View
from services.query.search.parallel import SIZE, run_in_parallel
from shared.rpc.query import Metric
from shared.similarity import distances_and_scores

# What single precision may be off by, relative to the terms added: thousands of roundings, most of which cancel
# out. Rows that lie within it of the last hit are ranked again in double precision.
_ROUNDING = 32 * float(np.finfo(np.float32).eps)
_EXACT = 2**20  # numbers converted to float64 at a time: 8 MB
_GATHERED = 2**17  # numbers gathered at a time: 512 kB, which a core's cache holds while they are multiplied
_SCANNED = 2**21  # numbers multiplied at a time where rows lie side by side; the interpreter is free meanwhile
_SHARED = 2**20  # numbers that are worth a thread of their own: 4 MB
_PRODUCTS = 2**22  # inner products in memory at a time: 16 MB
_DENSE = 2  # gather rows of which there are fewer than one in so many; compute all between them otherwise


@dataclass(frozen=True)
class Ranked:
    """A row with its score (higher is better) and distance (lower is better)."""

    mapped: MappedSegment
    row: int
    score: float
    distance: float

    @property
    def id(self) -> int:
        """The image's id."""
        return int(self.mapped.ids[self.row])


def rank(view: View, queries: Vectors, rows: Rows, *, k: int, metric: Metric) -> list[list[Ranked]]:
    """Return for each query, float32 [q, dim], the `k` of these rows most similar to it, the best first.

    Rows are ascending, int64 [n]. Images at the same distance come in the order of their ids. Memory is bounded,
    whatever n and q are: neither all embeddings nor all products are held at a time.
    """
    best = [_Best(k) for _ in queries]
    lengths = np.linalg.norm(queries, axis=1).astype(np.float32)
    span = max(1, _PRODUCTS // len(queries))
    for start in range(0, len(rows), span):
        some = rows[start : start + span]
        near, off = _closeness(
            _products(view, queries, some), view.norms[some], view.squares[some], lengths[:, np.newaxis], metric
        )
        for closest, query_near, query_off in zip(best, near, off, strict=True):
            closest.add(some, query_near, query_off)
    return [_exactly(view, query, closest.rows, k, metric) for query, closest in zip(queries, best, strict=True)]


def _products(view: View, queries: Vectors, rows: Rows) -> Vectors:
    """Return the inner products of queries and ascending rows, float32 [q, n]."""
    products = np.empty((len(queries), len(rows)), dtype=np.float32)
    threads = max(1, min(SIZE, rows.size * queries.shape[1] // _SHARED))
    cuts = [len(rows) * part // threads for part in range(threads + 1)]
    run_in_parallel(
        [partial(_multiply, view, queries, rows[start:stop], products[:, start:stop]) for start, stop in pairwise(cuts)]
    )
    return products


def _multiply(view: View, queries: Vectors, rows: Rows, products: Vectors) -> None:
    """Write the inner products of queries and ascending rows, float32 [q, n]."""
    dim = queries.shape[1]
    buffer = np.empty((max(1, _GATHERED // dim), dim), dtype=np.float32)
    for mapped, part, local in view.parts(rows):
        at = part.start
        for some, dense in _blocks(local, dim):
            out = products[:, at : at + len(some)]
            at += len(some)
            if not dense:
                np.matmul(queries, _gathered(mapped.vectors, some, buffer).T, out=out)
                continue
            first, last = int(some[0]), int(some[-1])
            block = mapped.vectors[first : last + 1].astype(np.float32, copy=False)
            if len(block) == len(some):
                np.matmul(queries, block.T, out=out)
            else:
                out[:] = np.matmul(queries, block.T)[:, some - first]


def _blocks(local: Rows, dim: int) -> Iterator[tuple[Rows, bool]]:
    """Split a segment's rows, and say of each part whether its rows lie side by side, or nearly so."""
    wide, narrow = max(1, _SCANNED // dim // _DENSE), max(1, _GATHERED // dim)
    for start in range(0, len(local), wide):
        some = local[start : start + wide]
        if int(some[-1] - some[0]) < _DENSE * len(some):
            yield some, True
        else:
            for place in range(0, len(some), narrow):
                yield some[place : place + narrow], False


def _gathered(vectors: StoredVectors, rows: Rows, buffer: Vectors) -> Vectors:
    """Return rows as float32, in the buffer where they need no conversion."""
    if vectors.dtype != np.float32:
        return vectors[rows].astype(np.float32)
    return np.take(vectors, rows, axis=0, out=buffer[: len(rows)], mode="clip")


def _closeness(
    products: Vectors, norms: Vectors, squares: Vectors, lengths: Vectors, metric: Metric
) -> tuple[Vectors, Vectors]:
    """Return what orders rows as the metric does, and by how much it may be off, both float32 [q, n].

    `products` are the inner products with the queries, [q, n]; `lengths` are the norms of the queries, [q, 1].
    """
    if metric == "cosine":
        return products / norms, np.broadcast_to(np.float32(_ROUNDING) * lengths, products.shape)
    return 2 * products - squares, np.float32(_ROUNDING) * (squares + 2 * lengths * norms)


class _Best:
    """The rows that may be among the `k` closest to a query, of those seen so far."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._near = self._off = np.empty(0, dtype=np.float32)
        self._least = -np.inf  # the k-th best is at least as close
        self.rows: Rows = np.empty(0, dtype=np.int64)

    def add(self, rows: Rows, near: Vectors, off: Vectors) -> None:
        # Not `>=`, which is false where single precision overflowed: such rows are ranked again too.
        may = np.flatnonzero(~(near + off < self._least))
        if not len(may):
            return
        self.rows = np.concatenate([self.rows, rows[may]])
        self._near = np.concatenate([self._near, near[may]])
        self._off = np.concatenate([self._off, off[may]])
        if len(self.rows) > self._k:
            last = len(self.rows) - self._k
            self._least = np.partition(self._near - self._off, last)[last]
            kept = ~(self._near + self._off < self._least)
            self.rows, self._near, self._off = self.rows[kept], self._near[kept], self._off[kept]


def _exactly(view: View, query: Vectors, rows: Rows, k: int, metric: Metric) -> list[Ranked]:
    """Return the `k` best of some ascending rows, in the order of their distances in float64, then of their ids."""
    distances, scores = np.empty(len(rows)), np.empty(len(rows))
    step = max(1, _EXACT // len(query))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        points = np.empty((len(some), len(query)))
        for mapped, part, local in view.parts(some):
            points[part] = mapped.vectors[local]
        distances[start : start + step], scores[start : start + step] = distances_and_scores(points, query, metric)
    order = np.lexsort((view.ids[rows], distances))[:k]
    places = [view.place(row) for row in rows[order].tolist()]
    return [
        Ranked(mapped, row, score, distance)
        for (mapped, row), score, distance in zip(
            places, scores[order].tolist(), distances[order].tolist(), strict=True
        )
    ]
