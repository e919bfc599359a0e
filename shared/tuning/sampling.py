"""A survey of a collection: some of its images as queries with their true neighbours, and a random sample of its rows.

A recall measured on queries whose neighbours were sought in the whole collection is that of the whole collection,
though only a sample of it is hashed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from shared.hashing.space import Space, WholeNumbers, checked_vectors, fit_space
from shared.hashing.types import FloatArray, HashingError
from shared.similarity import Metric

Ids = npt.NDArray[np.int64]
Rows = tuple[Ids, FloatArray]
"""Ids and embeddings of some images: int64 [n], float32 [n, dim]."""

QUERIES = 512
_MAX_AXES = 128
_MIN_FOR_AXES = 64  # vectors: fewer do not tell the principal axes
_FOR_AXES = 64 * 2**20  # bytes of vectors that the axes are found from, at most
_MOST_FOR_AXES = 8192
_ROWS = 64 * 2**20  # bytes of coordinates, at most
_BLOCK = 8192  # vectors worked on at a time, at most
_BLOCK_BYTES = 16 * 2**20  # of them, at most
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Sample:
    """A collection of `size` images, surveyed.

    Attributes:
        space: Its principal axes, or all components where there are too few vectors to tell them.
        rows: Coordinates of images drawn at random, float32 [n, coordinates].
        queries: Coordinates of queries, [q, coordinates].
        own: Which of the rows each query is, [q]; -1 where it is none of them.
        neighbours: Coordinates of each query's nearest others in the collection, [q, at most k, coordinates].
        size: The number of images.
        query_vectors: The queries as embeddings, float32 [q, dim].
        neighbour_ids: The ids of the neighbours, [q, at most k].
        metric: Whose neighbours they are.
    """

    space: Space
    rows: FloatArray
    queries: WholeNumbers
    own: npt.NDArray[np.int64]
    neighbours: WholeNumbers
    size: int
    query_vectors: FloatArray
    neighbour_ids: Ids
    metric: Metric

    def on_axes(self, count: int) -> "Sample":
        """Return the sample on its first principal axes, or itself where it has none or no more."""
        if self.space.axes is None or count >= self.space.size:
            return self
        return replace(
            self,
            space=self.space.truncated(count),
            rows=np.ascontiguousarray(self.rows[:, :count]),
            queries=self.queries[:, :count],
            neighbours=self.neighbours[..., :count],
        )


def survey(
    read: Callable[[], Iterable[Rows]],
    size: int,
    *,
    seed: int,
    k: int = 10,
    metric: Metric = "cosine",
    axes: int = _MAX_AXES,
) -> Sample:
    """Survey a collection in two passes, in bounded memory: the same for the same vectors and seed.

    Args:
        read: Gives all ids and embeddings anew at each call, some at a time.
        size: How many that are, about: images may come and go between the passes.
        seed: Of all that is drawn.
        k: Neighbours of a query.
        metric: Whose neighbours they are.
        axes: Principal axes at most.

    Raises:
        HashingError: There is no vector, or they are no [n, dim] of finite numbers.
    """
    rng = np.random.default_rng(seed)
    vectors, queries = _draw(read(), size, rng)
    dim = vectors.shape[1]
    count = min(axes, dim, len(vectors) // 8)
    scaling: Literal["before", "none"] = "before" if metric == "cosine" else "none"
    space = fit_space(vectors, count if len(vectors) >= _MIN_FOR_AXES else None, scaling=scaling)
    del vectors  # tens of megabytes
    most = _ROWS // (4 * space.size)
    rows = np.empty((min(most, max(1, size)), space.size), dtype=np.float32)
    nearest = _Nearest(queries, k, metric)
    own = np.full(len(queries), -1, dtype=np.int64)
    filled = 0
    wanted = _spread(size, len(rows), rng)
    start = 0
    for ids, batch in _blocks(read()):
        nearest.add(ids, batch)
        taken = np.flatnonzero(wanted[start : start + len(batch)])[: len(rows) - filled]
        start += len(batch)
        if len(taken):
            part = batch[taken]
            rows[filled : filled + len(taken)] = space.coordinates(part)
            for query in np.flatnonzero(own < 0):
                same = _same(part, queries[query])
                if len(same):
                    own[query] = filled + same[0]
            filled += len(taken)
    if not filled:
        raise HashingError(f"none of the {size} vectors that were to be surveyed is left: survey them again")
    found_ids, found = nearest.found()
    neighbours = space.coordinates(found.reshape(-1, dim)).reshape(*found.shape[:2], space.size)
    return Sample(
        space,
        rows[:filled],
        space.coordinates(queries),
        own,
        neighbours,
        max(size, filled),
        query_vectors=queries,
        neighbour_ids=found_ids,
        metric=metric,
    )


def sample_of(
    vectors: FloatArray, *, seed: int, size: int | None = None, k: int = 10, metric: Metric = "cosine", axes: int = 128
) -> Sample:
    """Return the survey of vectors that are at hand, float32 [n, dim], as those of a collection of `size`.

    Raises:
        HashingError: They are no [n, dim] of finite numbers, n ≥ 1.
    """
    vectors = checked_vectors(vectors, None)
    ids = np.arange(len(vectors))
    made = survey(lambda: ((ids, vectors),), len(vectors), seed=seed, k=k, metric=metric, axes=axes)
    return replace(made, size=max(size or 0, len(vectors)))


def _draw(batches: Iterable[Rows], size: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return vectors to find the axes from, and queries: both drawn at random."""
    parts: list[FloatArray] = []
    wanted: npt.NDArray[np.bool_] | None = None
    start = 0
    for _, batch in _blocks(batches):
        if wanted is None:
            most = min(_MOST_FOR_AXES, max(QUERIES, _FOR_AXES // (4 * batch.shape[1])))
            wanted = _spread(size, most, rng)
        parts.append(batch[np.flatnonzero(wanted[start : start + len(batch)])])
        start += len(batch)
    vectors = checked_vectors(np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32), None)
    chosen = np.sort(rng.choice(len(vectors), min(QUERIES, len(vectors)), replace=False))
    return vectors, vectors[chosen]


def _spread(size: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Mark `count` of `size` places at random; what comes beyond `size` is not marked."""
    marked = np.zeros(size, dtype=np.bool_)
    marked[rng.choice(size, min(count, size), replace=False)] = True
    return marked


class _Nearest:
    """The nearest vectors to each query among all that were added, the query itself left out."""

    def __init__(self, queries: FloatArray, k: int, metric: Metric) -> None:
        self._k, self._metric = k, metric
        self._queries = queries
        lengths = np.linalg.norm(queries, axis=1, keepdims=True)
        # Distances do not change with the origin, but squares of vectors far from it would drown them.
        self._origin = queries.mean(axis=0)
        self._targets = queries / np.maximum(lengths, _TINY) if metric == "cosine" else queries - self._origin
        self._scores = np.empty((len(queries), 0), dtype=np.float32)
        self._vectors = np.empty((len(queries), 0, queries.shape[1]), dtype=np.float32)
        self._ids = np.empty((len(queries), 0), dtype=np.int64)
        self._met = np.zeros(len(queries), dtype=np.bool_)

    def add(self, ids: Ids, part: FloatArray) -> None:
        if self._metric == "cosine":
            scores = self._targets @ (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), _TINY)).T
        else:
            points = part - self._origin
            scores = 2 * (self._targets @ points.T) - np.square(points).sum(axis=1)
        self._leave_out(part, scores)
        keep = min(self._k, scores.shape[1])
        best = np.argpartition(scores, scores.shape[1] - keep, axis=1)[:, scores.shape[1] - keep :]
        top = np.take_along_axis(scores, best, axis=1)
        merged = np.concatenate([self._scores, top], axis=1)
        count = min(self._k, merged.shape[1])
        chosen = np.argpartition(merged, merged.shape[1] - count, axis=1)[:, merged.shape[1] - count :]
        # Vectors are copied for the few that are among the best so far, not for each block's best.
        vectors = np.empty((len(merged), count, part.shape[1]), dtype=np.float32)
        old = chosen < self._scores.shape[1]
        query, place = np.nonzero(old)
        vectors[query, place] = self._vectors[query, chosen[query, place]]
        query, place = np.nonzero(~old)
        vectors[query, place] = part[best[query, chosen[query, place] - self._scores.shape[1]]]
        self._scores, self._vectors = np.take_along_axis(merged, chosen, axis=1), vectors
        self._ids = np.take_along_axis(np.concatenate([self._ids, ids[best]], axis=1), chosen, axis=1)

    def _leave_out(self, part: FloatArray, scores: FloatArray) -> None:
        """Take each query itself out of its scores: once, since what is alike counts as a neighbour."""
        for query in np.flatnonzero(~self._met):
            same = _same(part, self._queries[query])
            if len(same):
                scores[query, same[0]] = -np.inf
                self._met[query] = True

    def found(self) -> Rows:
        """Return the neighbours, as many as every query has, the nearest first: ids [q, n], vectors [q, n, dim]."""
        count = int(np.isfinite(self._scores).sum(axis=1).min()) if self._scores.size else 0
        order = np.argsort(-self._scores, axis=1)[:, :count]
        return np.take_along_axis(self._ids, order, axis=1), np.take_along_axis(self._vectors, order[..., None], axis=1)


def _same(vectors: FloatArray, vector: FloatArray) -> npt.NDArray[np.intp]:
    """Return which of the vectors equal one; its greatest component tells it from most others, a zero would not."""
    column = np.abs(vector).argmax()
    alike = np.flatnonzero(vectors[:, column] == vector[column])
    same: npt.NDArray[np.intp] = alike[(vectors[alike] == vector).all(axis=1)]
    return same


def _blocks(batches: Iterable[Rows]) -> Iterator[Rows]:
    """Yield the same rows in blocks of like size, float32: what is done for each query pays for many rows at a time."""
    parts: list[Rows] = []
    count = 0
    for ids, vectors in batches:
        most = max(1, min(_BLOCK, _BLOCK_BYTES // (4 * max(1, vectors.shape[-1]))))
        for start in range(0, len(vectors), most):
            some = slice(start, start + most)
            parts.append((ids[some], checked_vectors(vectors[some], None)))
            count += len(parts[-1][0])
            if count >= most:
                yield _joined(parts)
                parts, count = [], 0
    if parts:
        yield _joined(parts)


def _joined(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([vectors for _, vectors in parts])
