"""Ranking: rows of a view by their similarity to queries, exactly."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from services.query.replica.mapped_segment import Ids, MappedSegment, Rows, StoredVectors, Vectors
from services.query.replica.view import View
from services.query.search.best_rows import BestImages, BestRows
from services.query.search.parallel import THREADS, run_in_parallel
from shared.rpc.query import Metric
from shared.similarity import as_of_windows, distances_and_scores

# What single precision may be off by, relative to the terms added: thousands of roundings, most of which cancel
# out. Rows that lie within it of the last hit are ranked again in double precision.
_ROUNDING = 32 * float(np.finfo(np.float32).eps)
_EQUAL_DIGITS = 11  # behind the point, of distances of different searches that are those of equal images
_EQUAL = 1e-12  # distances in float64 that differ by less are those of equal images
_EXACT = 2**17  # numbers converted to float64 at a time: 1 MB, which a core's cache holds while they are compared
_GATHERED = 2**17  # numbers gathered at a time: 512 kB, which a core's cache holds while they are multiplied
_SCANNED = 2**21  # numbers multiplied at a time where rows lie side by side; the interpreter is free meanwhile
_SHARED = 2**20  # numbers that are worth a thread of their own: 4 MB
_PRODUCTS = 2**22  # inner products in memory at a time: 16 MB
_SINGLE = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)  # of each number of half precision;
# numpy takes twice as long to convert it
_FEW = 64  # rows of a segment that are gathered however close they lie
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
    are windows of one image: only the closest row of an image is ranked, by distances that count for windows.
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
    return _rank_in_double_precision(view, queries, best, k, metric, own_rows or [None] * len(queries))


def rank_each(
    view: View,
    queries: Vectors,
    rows: Sequence[Rows],
    *,
    k: int,
    metric: Metric,
    own_rows: Sequence[int | None],
    images: Sequence[Ids | None],
) -> list[list[Hit]]:
    """Return for each query, float32 [q, dim], the `k` of its own rows most similar to it, as `rank` does.

    Rows, own rows and images are those of `rank`, for each query.
    """
    ranked: list[list[Hit]] = []
    while len(ranked) < len(queries):
        start = stop = len(ranked)
        numbers = 0
        while stop < len(queries) and (stop == start or numbers + len(rows[stop]) <= _PRODUCTS):
            numbers += len(rows[stop])
            stop += 1
        lengths = np.linalg.norm(queries[start:stop], axis=1).astype(np.float32)
        products = _products_of_each(view, queries[start:stop], rows[start:stop])
        bests: list[BestRows] = []
        for place, query_products, length in zip(range(start, stop), products, lengths, strict=True):
            query_rows, query_images = rows[place], images[place]
            best = BestRows(k) if query_images is None else BestImages(k)
            closeness, error = _closeness(
                query_products, view.norms[query_rows], view.squares[query_rows], length, metric
            )
            best.add(query_rows, closeness, error, query_images)
            bests.append(best)
        ranked += _rank_in_double_precision(view, queries[start:stop], bests, k, metric, own_rows[start:stop])
    return ranked


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

    def multiply(start: int, stop: int) -> None:
        _multiply(view, queries, rows[start:stop], products[:, start:stop], _buffer(queries.shape[1]))

    _in_parts(multiply, len(rows), queries.shape[1])
    return products


def _products_of_each(view: View, queries: Vectors, rows: Sequence[Rows]) -> list[Vectors]:
    """Return the inner products of each query with its own ascending rows, float32 [n] for each."""
    cuts = [0, *accumulate(len(query_rows) for query_rows in rows)]
    products = np.empty(cuts[-1], dtype=np.float32)

    def multiply(start: int, stop: int) -> None:
        buffer = _buffer(queries.shape[1])
        for query, query_rows, (first, last) in zip(queries, rows, pairwise(cuts), strict=True):
            low, high = max(start, first), min(stop, last)
            if low < high:
                out = products[np.newaxis, low:high]
                _multiply(view, query[np.newaxis], query_rows[low - first : high - first], out, buffer)

    _in_parts(multiply, len(products), queries.shape[1])
    return [products[first:last] for first, last in pairwise(cuts)]


def _in_parts(multiply: Callable[[int, int], None], rows: int, dim: int) -> None:
    """Multiply all rows, from one to another, on as many threads as they are worth."""
    threads = max(1, min(THREADS, rows * dim // _SHARED))
    cuts = [rows * part // threads for part in range(threads + 1)]
    run_in_parallel([partial(multiply, start, stop) for start, stop in pairwise(cuts)])


def _buffer(dim: int) -> Vectors:
    """Return room for rows that are gathered."""
    return np.empty((max(1, _GATHERED // dim), dim), dtype=np.float32)


def _multiply(view: View, queries: Vectors, rows: Rows, products: Vectors, buffer: Vectors) -> None:
    """Write the inner products of queries and ascending rows, float32 [q, n].

    Rows that lie apart are gathered into the buffer, of all segments, so that a collection of many segments does not
    cost a product for each.
    """
    dim = queries.shape[1]
    gathered = 0  # rows in the buffer, whose products come right before the column
    column = 0

    def multiply_gathered() -> None:
        nonlocal gathered
        if gathered:
            np.matmul(queries, buffer[:gathered].T, out=products[:, column - gathered : column])
            gathered = 0

    for segment, _, segment_rows in view.parts(rows):
        for block, dense in _blocks(segment_rows, dim):
            if not dense:
                if gathered + len(block) > len(buffer):
                    multiply_gathered()
                _gather(segment.vectors, block, buffer[gathered : gathered + len(block)])
                gathered += len(block)
                column += len(block)
                continue
            multiply_gathered()
            out = products[:, column : column + len(block)]
            column += len(block)
            first, last = int(block[0]), int(block[-1])
            vectors = segment.vectors[first : last + 1].astype(np.float32, copy=False)
            if len(vectors) == len(block):
                np.matmul(queries, vectors.T, out=out)
            else:
                out[:] = np.matmul(queries, vectors.T)[:, block - first]
    multiply_gathered()


def _blocks(segment_rows: Rows, dim: int) -> Iterator[tuple[Rows, bool]]:
    """Split a segment's rows into blocks; yields each, and whether its rows lie side by side, or nearly so."""
    wide, narrow = max(1, _SCANNED // dim // _DENSE), max(1, _GATHERED // dim)
    for start in range(0, len(segment_rows), wide):
        block = segment_rows[start : start + wide]
        if len(block) >= _FEW and int(block[-1] - block[0]) < _DENSE * len(block):
            yield block, True
        else:
            for place in range(0, len(block), narrow):
                yield block[place : place + narrow], False


def _gather(vectors: StoredVectors, rows: Rows, into: Vectors) -> None:
    """Write rows as float32."""
    if vectors.dtype == np.float32:
        np.take(vectors, rows, axis=0, out=into, mode="clip")
    else:
        np.take(_SINGLE, vectors[rows].view(np.uint16), out=into, mode="clip")


def _closeness(
    products: Vectors, norms: Vectors, squares: Vectors, lengths: Vectors | np.float32, metric: Metric
) -> tuple[Vectors, Vectors]:
    """Return numbers that order rows as the metric does, and their largest rounding error, both float32 [q, n].

    `products` are the inner products with the queries, [q, n]; `lengths` are the norms of the queries, [q, 1]. For one
    query, both may lack the first dimension.
    """
    if metric == "cosine":
        return products / norms, np.broadcast_to(np.float32(_ROUNDING) * lengths, products.shape)
    return 2 * products - squares, np.float32(_ROUNDING) * (squares + 2 * lengths * norms)


def _rank_in_double_precision(
    view: View, queries: Vectors, bests: Sequence[BestRows], k: int, metric: Metric, own_rows: Sequence[int | None]
) -> list[list[Hit]]:
    """Return for each query the `k` best of its ascending rows, in the order of their distances in float64."""
    counts = [len(best.rows) for best in bests]
    rows = np.concatenate([best.rows for best in bests])
    distances, scores = _exact_distances(view, queries, rows, counts, metric)
    ranked: list[list[Hit]] = []
    for best, own_row, (start, stop) in zip(bests, own_rows, pairwise([0, *accumulate(counts)]), strict=True):
        of_query = distances[start:stop], scores[start:stop]
        if best.images is not None:
            of_query = as_of_windows(of_query[0], metric)
        ranked.append(_first(view, best, *of_query, k, own_row))
    return ranked


def _exact_distances(
    view: View, queries: Vectors, rows: Rows, counts: Sequence[int], metric: Metric
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return distances and scores of rows, of which so many are those of each query, ascending: float64 [n]."""
    distances, scores = np.empty(len(rows)), np.empty(len(rows))
    order = np.argsort(rows, kind="stable") if len(queries) > 1 else np.arange(len(rows))
    query_of = np.repeat(np.arange(len(queries)), counts)
    step = max(1, _EXACT // queries.shape[1])
    buffer = np.empty((min(step, len(rows)), queries.shape[1]))
    for start in range(0, len(rows), step):
        block = order[start : start + step]
        points = buffer[: len(block)]
        for segment, part, segment_rows in view.parts(rows[block]):
            points[part] = segment.vectors[segment_rows]
        targets = queries[0] if len(queries) == 1 else queries[query_of[block]]
        distances[block], scores[block] = distances_and_scores(points, targets, metric)
    return distances, scores


def _first(
    view: View,
    best: BestRows,
    distances: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    k: int,
    own_row: int | None,
) -> list[Hit]:
    """Return the `k` best rows in the order of their distances, then of their ids.

    Of an image, only the best row is returned. The query's own row comes first among rows at the least distance.
    """
    rows = best.rows
    ids = view.ids[rows]
    images = ids if best.images is None else best.images
    is_own = rows == (-1 if own_row is None else own_row)
    if is_own.any() and distances[is_own][0] - distances.min() < _EQUAL:
        distances[is_own] = distances.min()  # copies may seem nearer by a rounding
    order = np.lexsort((ids, images, ~is_own, distances))
    if best.images is not None:  # otherwise each row is of an image of its own
        order = order[np.sort(np.unique(images[order], return_index=True)[1])]
    order = order[:k]
    segments = np.searchsorted(view.starts, rows[order], side="right") - 1
    return [
        Hit(view.mapped_segments[segment], row, image_id, score, distance)
        for segment, row, image_id, score, distance in zip(
            segments.tolist(),
            (rows[order] - view.starts[segments]).tolist(),
            images[order].tolist(),
            scores[order].tolist(),
            distances[order].tolist(),
            strict=True,
        )
    ]
