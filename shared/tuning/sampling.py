"""A survey of a collection: some of its images as queries with their true neighbours, and a random sample of its rows.

A recall measured on queries whose neighbours were sought in the whole collection is that of the whole collection,
though only a sample of it is hashed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared.hashing.space import Scaling, Space, WholeNumbers, checked_vectors, fit_space
from shared.hashing.types import FloatArray, HashingError
from shared.search_limits import Metric

Ids = npt.NDArray[np.int64]
Rows = tuple[Ids, FloatArray]
"""Ids and embeddings of some images: int64 [n], float32 [n, dim]."""

MANY = 4_000_000
"""Images from which a collection is large."""

QUERIES = 512
MAX_AXES = 128
_MIN_VECTORS_FOR_AXES = 64  # fewer do not tell the principal axes
_MAX_VECTORS_FOR_AXES = 8192
_AXES_BYTES = 64 * 2**20  # of vectors that the axes are found from, at most
_ROWS_BYTES = 64 * 2**20  # of coordinates, at most; twice as many of a large collection, which wants more cells
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
        query_rows: Which of the rows each query is, [q]; -1 where it is none of them.
        neighbours: Coordinates of each query's nearest others in the collection, [q, at most k, coordinates].
        size: The number of images.
        query_vectors: The queries as embeddings, float32 [q, dim].
        neighbour_ids: The ids of the neighbours, [q, at most k].
        metric: Whose neighbours they are.
    """

    space: Space
    rows: FloatArray
    queries: WholeNumbers
    query_rows: npt.NDArray[np.int64]
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
    axes: int = MAX_AXES,
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
    vectors, queries = _first_pass(read(), size, rng)
    dim = vectors.shape[1]
    count = min(axes, dim, len(vectors) // 8)
    scaling: Scaling = "before" if metric == "cosine" else "none"
    space = fit_space(vectors, count if len(vectors) >= _MIN_VECTORS_FOR_AXES else None, scaling=scaling)
    del vectors  # tens of megabytes
    neighbours = _Neighbours(queries, k, metric)
    rows, query_rows = _second_pass(read(), size, space, neighbours, rng)
    ids, found = neighbours.sorted()
    return Sample(
        space=space,
        rows=rows,
        queries=space.coordinates(queries),
        query_rows=query_rows,
        neighbours=space.coordinates(found.reshape(-1, dim)).reshape(*found.shape[:2], space.size),
        size=max(size, len(rows)),
        query_vectors=queries,
        neighbour_ids=ids,
        metric=metric,
    )


def survey_vectors(
    vectors: FloatArray,
    *,
    seed: int,
    size: int | None = None,
    k: int = 10,
    metric: Metric = "cosine",
    axes: int = MAX_AXES,
) -> Sample:
    """Return the survey of vectors that are at hand, float32 [n, dim], as those of a collection of `size`.

    Raises:
        HashingError: They are no [n, dim] of finite numbers, n ≥ 1.
    """
    vectors = checked_vectors(vectors, None)
    ids = np.arange(len(vectors))
    sample = survey(lambda: ((ids, vectors),), len(vectors), seed=seed, k=k, metric=metric, axes=axes)
    return replace(sample, size=max(size or 0, len(vectors)))


def _first_pass(batches: Iterable[Rows], size: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return vectors to find the axes from, and queries: both drawn at random."""
    parts: list[FloatArray] = []
    marked: npt.NDArray[np.bool_] | None = None
    start = 0
    for _, batch in _blocks(batches):
        if marked is None:
            most = min(_MAX_VECTORS_FOR_AXES, max(QUERIES, _AXES_BYTES // (4 * batch.shape[1])))
            marked = _mark_at_random(size, most, rng)
        parts.append(batch[np.flatnonzero(marked[start : start + len(batch)])])
        start += len(batch)
    vectors = checked_vectors(np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32), None)
    chosen = np.sort(rng.choice(len(vectors), min(QUERIES, len(vectors)), replace=False))
    return vectors, vectors[chosen]


def _second_pass(
    batches: Iterable[Rows], size: int, space: Space, neighbours: "_Neighbours", rng: np.random.Generator
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Search all vectors for neighbours of the queries; returns `Sample.rows` and `Sample.query_rows`.

    Raises:
        HashingError: No vector is left of those that were there at the first pass.
    """
    most = (_ROWS_BYTES if size < MANY else 2 * _ROWS_BYTES) // (4 * space.size)
    rows = np.empty((min(most, max(1, size)), space.size), dtype=np.float32)
    query_rows = np.full(len(neighbours.queries), -1, dtype=np.int64)
    marked = _mark_at_random(size, len(rows), rng)
    start = filled = 0
    for ids, batch in _blocks(batches):
        neighbours.add(ids, batch)
        drawn = batch[np.flatnonzero(marked[start : start + len(batch)])[: len(rows) - filled]]
        start += len(batch)
        if len(drawn):
            rows[filled : filled + len(drawn)] = space.coordinates(drawn)
            for query in np.flatnonzero(query_rows < 0):
                equal = _equal_rows(drawn, neighbours.queries[query])
                if len(equal):
                    query_rows[query] = filled + equal[0]
            filled += len(drawn)
    if not filled:
        raise HashingError(f"none of the {size} vectors that were to be surveyed is left: survey them again")
    return rows[:filled], query_rows


def _mark_at_random(size: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Mark `count` of `size` places; what comes beyond `size` is not marked."""
    marked = np.zeros(size, dtype=np.bool_)
    marked[rng.choice(size, min(count, size), replace=False)] = True
    return marked


class _Neighbours:
    """The nearest vectors to each query among all that were added, without the query itself."""

    def __init__(self, queries: FloatArray, k: int, metric: Metric) -> None:
        self._k, self._metric = k, metric
        self.queries = queries
        lengths = np.linalg.norm(queries, axis=1, keepdims=True)
        # Distances do not change with the origin, but squares of vectors far from it would drown them.
        self._origin = queries.mean(axis=0)
        self._targets = queries / np.maximum(lengths, _TINY) if metric == "cosine" else queries - self._origin
        self._scores = np.empty((len(queries), 0), dtype=np.float32)
        self._vectors = np.empty((len(queries), 0, queries.shape[1]), dtype=np.float32)
        self._ids = np.empty((len(queries), 0), dtype=np.int64)
        self._excluded = np.zeros(len(queries), dtype=np.bool_)  # whether the query itself has been met

    def add(self, ids: Ids, part: FloatArray) -> None:
        """Compare more vectors, [n, dim], with each query."""
        if self._metric == "cosine":
            scores = self._targets @ (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), _TINY)).T
        else:
            points = part - self._origin
            scores = 2 * (self._targets @ points.T) - np.square(points).sum(axis=1)
        self._exclude_queries(part, scores)
        if self._scores.shape[1] == self._k:
            self._take_nearer(ids, part, scores)
            return
        keep = min(self._k, scores.shape[1])
        best = np.argpartition(scores, scores.shape[1] - keep, axis=1)[:, scores.shape[1] - keep :]
        top = np.take_along_axis(scores, best, axis=1)
        merged = np.concatenate([self._scores, top], axis=1)
        count = min(self._k, merged.shape[1])
        chosen = np.argpartition(merged, merged.shape[1] - count, axis=1)[:, merged.shape[1] - count :]
        vectors = np.concatenate([self._vectors, part[best]], axis=1)
        self._scores = np.take_along_axis(merged, chosen, axis=1)
        self._vectors = np.take_along_axis(vectors, chosen[..., None], axis=1)
        self._ids = np.take_along_axis(np.concatenate([self._ids, ids[best]], axis=1), chosen, axis=1)

    def _take_nearer(self, ids: Ids, part: FloatArray, scores: FloatArray) -> None:
        """Take those of more vectors that are nearer to a query than the last of its neighbours so far.

        In a large collection these are few: most queries cost a comparison of each score and no more.
        """
        nearer = scores > self._scores.min(axis=1, keepdims=True)
        for query in np.flatnonzero(nearer.any(axis=1)):
            places = np.flatnonzero(nearer[query])
            merged = np.concatenate([self._scores[query], scores[query, places]])
            chosen = np.argpartition(merged, len(places))[len(places) :]
            old, new = chosen[chosen < self._k], chosen[chosen >= self._k]
            came = places[new - self._k]
            self._scores[query] = merged[np.concatenate([old, new])]
            self._ids[query] = np.concatenate([self._ids[query, old], ids[came]])
            self._vectors[query] = np.concatenate([self._vectors[query, old], part[came]])

    def _exclude_queries(self, part: FloatArray, scores: FloatArray) -> None:
        """Take each query itself out of its scores: once, since a copy of it counts as a neighbour."""
        for query in np.flatnonzero(~self._excluded):
            equal = _equal_rows(part, self.queries[query])
            if len(equal):
                scores[query, equal[0]] = -np.inf
                self._excluded[query] = True

    def sorted(self) -> Rows:
        """Return the neighbours, as many as every query has, the nearest first: ids [q, n], vectors [q, n, dim]."""
        count = int(np.isfinite(self._scores).sum(axis=1).min()) if self._scores.size else 0
        order = np.argsort(-self._scores, axis=1)[:, :count]
        return np.take_along_axis(self._ids, order, axis=1), np.take_along_axis(self._vectors, order[..., None], axis=1)


def _equal_rows(vectors: FloatArray, vector: FloatArray) -> npt.NDArray[np.intp]:
    """Return which of the vectors equal one; its greatest component tells it from most others, a zero would not."""
    column = np.abs(vector).argmax()
    candidates = np.flatnonzero(vectors[:, column] == vector[column])
    equal: npt.NDArray[np.intp] = candidates[(vectors[candidates] == vector).all(axis=1)]
    return equal


def _blocks(batches: Iterable[Rows]) -> Iterator[Rows]:
    """Yield the same rows in blocks of like size, float32: what is done for each query pays for many rows at a time."""
    parts: list[Rows] = []
    count = 0
    for ids, vectors in batches:
        most = max(1, min(_BLOCK, _BLOCK_BYTES // (4 * max(1, vectors.shape[-1]))))
        for start in range(0, len(vectors), most):
            part = slice(start, start + most)
            parts.append((ids[part], checked_vectors(vectors[part], None)))
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
