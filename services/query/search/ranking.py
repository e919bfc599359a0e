"""Ranking: rows of a view by their similarity to queries, exactly."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from services.query.replica.mapped_segment import Ids, MappedSegment, Rows, StoredVectors, Vectors
from services.query.replica.view import View
from services.query.search.best_rows import BestImages, BestRows
from services.query.search.parallel import THREADS, run_in_parallel
from shared.rpc.query import Metric
from shared.similarity import distances_and_scores

# What single precision may be off by, relative to the terms added: thousands of roundings, most of which cancel
# out. Rows that lie within it of the last hit are ranked again in double precision.
_ROUNDING = 32 * float(np.finfo(np.float32).eps)
_EQUAL_DIGITS = 11  # behind the point, of distances of different searches that are those of equal images
_EQUAL = 1e-12  # distances in float64 that differ by less are those of equal images
_EXACT = 2**20  # numbers converted to float64 at a time: 8 MB
_GATHERED = 2**17  # numbers gathered at a time: 512 kB, which a core's cache holds while they are multiplied
_SCANNED = 2**21  # numbers multiplied at a time where rows lie side by side; the interpreter is free meanwhile
_SHARED = 2**20  # numbers that are worth a thread of their own: 4 MB
_PRODUCTS = 2**22  # inner products in memory at a time: 16 MB
_DENSE = 2  # gather rows of which there are fewer than one in so many; compute all between them otherwise


@dataclass(frozen=True)
class Hit:
    """A row of a segment with its score (higher is better) and distance (lower is better).

    Attributes:
        image_id: The id of the image.
        region: The window of the image that the embedding is of: x, y, width and height in pixels of the upright
            original. None: it is of the whole image.
    """

    segment: MappedSegment
    row: int
    image_id: int
    score: float
    distance: float
    region: tuple[int, int, int, int] | None = None


def rank(
    view: View,
    queries: Vectors,
    rows: Rows,
    *,
    k: int,
    metric: Metric,
    own_rows: Sequence[int | None] | None = None,
    images: Ids | None = None,
) -> list[list[Hit]]:
    """Return for each query, float32 [q, dim], the `k` of these rows most similar to it, the best first.

    Rows are ascending, int64 [n]. Images at the same distance come in the order of their ids, but the row in
    `own_rows`, whose image the query is, comes first among its equals. Memory is bounded, whatever n and q are: neither
    all embeddings nor all products are held at a time.

    `images`, int64 [n], are the ids of the rows' images where these are not the ids of the rows, since several rows
    are windows of one image: only the closest row of an image is ranked.
    """
    best = [BestRows(k) if images is None else BestImages(k) for _ in queries]
    lengths = np.linalg.norm(queries, axis=1).astype(np.float32)
    span = max(1, _PRODUCTS // len(queries))
    for start in range(0, len(rows), span):
        block = rows[start : start + span]
        images_of_block = None if images is None else images[start : start + span]
        closeness, error = _closeness(
            _products(view, queries, block), view.norms[block], view.squares[block], lengths[:, np.newaxis], metric
        )
        for best_rows, query_closeness, query_error in zip(best, closeness, error, strict=True):
            best_rows.add(block, query_closeness, query_error, images_of_block)
    return [
        _rank_in_double_precision(view, query, best_rows, k, metric, own_row)
        for query, best_rows, own_row in zip(queries, best, own_rows or [None] * len(queries), strict=True)
    ]


def with_score(hits: list[Hit], min_score: float | None) -> list[Hit]:
    """Return the hits whose score is at least `min_score`; None: all."""
    return hits if min_score is None else [hit for hit in hits if hit.score >= min_score]


def best_of_images(hits: Iterable[Hit], own_id: int | None = None) -> list[Hit]:
    """Return the best hit of each image, the best first; among equals the whole image, and the image with `own_id`."""

    def order(hit: Hit) -> tuple[float, bool, int, bool]:
        return round(hit.distance, _EQUAL_DIGITS), hit.image_id != own_id, hit.image_id, hit.region is not None

    best: dict[int, Hit] = {}
    for hit in sorted(hits, key=order):
        best.setdefault(hit.image_id, hit)
    return list(best.values())


def _products(view: View, queries: Vectors, rows: Rows) -> Vectors:
    """Return the inner products of queries and ascending rows, float32 [q, n]."""
    products = np.empty((len(queries), len(rows)), dtype=np.float32)
    threads = max(1, min(THREADS, rows.size * queries.shape[1] // _SHARED))
    cuts = [len(rows) * part // threads for part in range(threads + 1)]
    run_in_parallel(
        [partial(_multiply, view, queries, rows[start:stop], products[:, start:stop]) for start, stop in pairwise(cuts)]
    )
    return products


def _multiply(view: View, queries: Vectors, rows: Rows, products: Vectors) -> None:
    """Write the inner products of queries and ascending rows, float32 [q, n]."""
    dim = queries.shape[1]
    buffer = np.empty((max(1, _GATHERED // dim), dim), dtype=np.float32)
    for segment, part, segment_rows in view.parts(rows):
        column = part.start
        for block, dense in _blocks(segment_rows, dim):
            out = products[:, column : column + len(block)]
            column += len(block)
            if not dense:
                np.matmul(queries, _gathered(segment.vectors, block, buffer).T, out=out)
                continue
            first, last = int(block[0]), int(block[-1])
            vectors = segment.vectors[first : last + 1].astype(np.float32, copy=False)
            if len(vectors) == len(block):
                np.matmul(queries, vectors.T, out=out)
            else:
                out[:] = np.matmul(queries, vectors.T)[:, block - first]


def _blocks(segment_rows: Rows, dim: int) -> Iterator[tuple[Rows, bool]]:
    """Split a segment's rows into blocks; yields each, and whether its rows lie side by side, or nearly so."""
    wide, narrow = max(1, _SCANNED // dim // _DENSE), max(1, _GATHERED // dim)
    for start in range(0, len(segment_rows), wide):
        block = segment_rows[start : start + wide]
        if int(block[-1] - block[0]) < _DENSE * len(block):
            yield block, True
        else:
            for place in range(0, len(block), narrow):
                yield block[place : place + narrow], False


def _gathered(vectors: StoredVectors, rows: Rows, buffer: Vectors) -> Vectors:
    """Return rows as float32, in the buffer where they need no conversion."""
    if vectors.dtype != np.float32:
        return vectors[rows].astype(np.float32)
    return np.take(vectors, rows, axis=0, out=buffer[: len(rows)], mode="clip")


def _closeness(
    products: Vectors, norms: Vectors, squares: Vectors, lengths: Vectors, metric: Metric
) -> tuple[Vectors, Vectors]:
    """Return numbers that order rows as the metric does, and their largest rounding error, both float32 [q, n].

    `products` are the inner products with the queries, [q, n]; `lengths` are the norms of the queries, [q, 1].
    """
    if metric == "cosine":
        return products / norms, np.broadcast_to(np.float32(_ROUNDING) * lengths, products.shape)
    return 2 * products - squares, np.float32(_ROUNDING) * (squares + 2 * lengths * norms)


def _rank_in_double_precision(
    view: View, query: Vectors, best: BestRows, k: int, metric: Metric, own_row: int | None
) -> list[Hit]:
    """Return the `k` best of these ascending rows, in the order of their distances in float64, then of their ids.

    Of an image, only the best row is returned. The query's own row comes first among rows at the least distance.
    """
    rows = best.rows
    images = view.ids[rows] if best.images is None else best.images
    distances, scores = np.empty(len(rows)), np.empty(len(rows))
    step = max(1, _EXACT // len(query))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        points = np.empty((len(block), len(query)))
        for segment, part, segment_rows in view.parts(block):
            points[part] = segment.vectors[segment_rows]
        distances[start : start + step], scores[start : start + step] = distances_and_scores(points, query, metric)
    is_own = rows == (-1 if own_row is None else own_row)
    if is_own.any() and distances[is_own][0] - distances.min() < _EQUAL:
        distances[is_own] = distances.min()  # copies may seem nearer by a rounding
    order = np.lexsort((view.ids[rows], images, ~is_own, distances))
    first = np.unique(images[order], return_index=True)[1]
    order = order[np.sort(first)[:k]]
    places = [view.place(row) for row in rows[order].tolist()]
    return [
        Hit(segment, row, image_id, score, distance)
        for (segment, row), image_id, score, distance in zip(
            places, images[order].tolist(), scores[order].tolist(), distances[order].tolist(), strict=True
        )
    ]
