"""Ranking: the images of some packs by their similarity to a query, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.query.packs import Ids, Pack, Vectors
from shared.query import Metric

# What single precision may be off by, relative to the terms added: thousands of roundings, most of which cancel
# out. Rows that lie within it of the last hit are ranked again in double precision.
_ROUNDING = 32 * float(np.finfo(np.float32).eps)
_CHUNK = 1024  # rows ranked in double precision at a time: 10 MB of 1280 dimensions

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """A row with its score (higher is better) and distance (lower is better)."""

    pack: Pack
    row: int
    score: float
    distance: float


def scan(packs: Sequence[Pack], query: Vectors, *, k: int, metric: Metric) -> tuple[list[Ranked], int]:
    """Return the `k` live rows most similar to the query, float32 [dim], and how many were compared: all.

    Images at the same distance come in the order of their ids.
    """
    rows, closeness, slack = [], [], []
    for pack in packs:
        some, uncertain = _closeness(pack.vectors @ query, pack.norms, pack.squares, query, metric)
        live = np.flatnonzero(pack.live)
        rows.append(live)
        closeness.append(some[live])
        slack.append(uncertain[live])
    return _best(packs, rows, closeness, slack, query, k=k, metric=metric), sum(len(found) for found in rows)


def rerank(packs: Sequence[Pack], query: Vectors, ids: Ids, *, k: int, metric: Metric) -> tuple[list[Ranked], int]:
    """Return the `k` of the candidates `ids` most similar to the query, and how many of them have a live row."""
    rows, closeness, slack = [], [], []
    for pack in packs:
        _, found = pack.locate(ids)
        found = np.sort(found)  # in the order of the file: pages are read forwards
        some, uncertain = _closeness(pack.vectors[found] @ query, pack.norms[found], pack.squares[found], query, metric)
        rows.append(found)
        closeness.append(some)
        slack.append(uncertain)
    return _best(packs, rows, closeness, slack, query, k=k, metric=metric), sum(len(found) for found in rows)


def _closeness(
    products: Vectors, norms: Vectors, squares: Vectors, query: Vectors, metric: Metric
) -> tuple[Vectors, Vectors]:
    """Return what orders rows as the metric does, and by how much it may be off, both float32 [n].

    `products` are the rows' inner products with the query.
    """
    length = np.float32(np.linalg.norm(query))
    if metric == "cosine":
        return products / norms, np.full(len(products), _ROUNDING * length, dtype=np.float32)
    return 2 * products - squares, np.float32(_ROUNDING) * (squares + 2 * length * norms)


def _best(
    packs: Sequence[Pack],
    rows: Sequence[npt.NDArray[np.int64]],
    closeness: Sequence[Vectors],
    slack: Sequence[Vectors],
    query: Vectors,
    *,
    k: int,
    metric: Metric,
) -> list[Ranked]:
    """Return the `k` best of these rows of each pack, in the order of their distances in float64, then of their ids."""
    count = sum(len(some) for some in rows)
    if not count:
        return []
    near, off = np.concatenate(closeness), np.concatenate(slack)
    last = max(0, count - k)
    # Not `>=`, which is false where single precision overflowed: such rows are ranked again too.
    contenders = ~(near + off < np.partition(near - off, last)[last])
    found: list[tuple[float, int, Ranked]] = []
    start = 0
    for pack, some in zip(packs, rows, strict=True):
        again = some[contenders[start : start + len(some)]]
        start += len(some)
        for chunk in np.split(again, range(_CHUNK, len(again), _CHUNK)):
            distances, scores = _exactly(pack.vectors[chunk], query, metric)
            ranked = [
                Ranked(pack, row, score, distance)
                for row, score, distance in zip(chunk.tolist(), scores.tolist(), distances.tolist(), strict=True)
            ]
            found += zip(distances.tolist(), pack.ids[chunk].tolist(), ranked, strict=True)
    found.sort(key=lambda one: one[:2])
    return [ranked for _, _, ranked in found[:k]]


def _exactly(vectors: Vectors, query: Vectors, metric: Metric) -> tuple[Floats, Floats]:
    """Return distances and scores of rows, float32 [n, dim], in float64 [n].

    Cosine: score (p·q) / (|p| |q|), distance 1 - score. Euclidean: distance |p - q|, score 1 / (1 + distance).
    """
    points, target = vectors.astype(np.float64), query.astype(np.float64)
    # einsum, since BLAS may give two rows that are alike results that differ in the last bit.
    if metric == "euclidean":
        points -= target
        distances: Floats = np.sqrt(np.einsum("ij,ij->i", points, points))
        return distances, 1 / (1 + distances)
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points) * np.einsum("j,j->", target, target))
    products = np.einsum("ij,j->i", points, target)
    scores: Floats = np.clip(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0), -1, 1)
    return 1 - scores, scores
