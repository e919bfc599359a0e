"""Ranking: the images of some packs by their similarity to a query, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.query.packs import Ids, Pack, Vectors
from shared.query import Metric

_SPARE = 16  # rows beyond k that are ranked again in float64: float32 may swap neighbours that lie 1e-7 apart


@dataclass(frozen=True)
class Ranked:
    """A row with its score (higher is better) and distance (lower is better)."""

    pack: Pack
    row: int
    score: float
    distance: float


def scan(packs: Sequence[Pack], query: Vectors, *, k: int, metric: Metric) -> tuple[list[Ranked], int]:
    """Return the `k` live rows most similar to the query, float32 [dim], and how many were compared: all."""
    closeness = []
    compared = 0
    for pack in packs:
        some = _closeness(pack.vectors @ query, pack.norms, pack.squares, metric)
        live = pack.live
        some[~live] = -np.inf
        compared += int(live.sum())
        closeness.append(some)
    return _best(packs, [np.arange(len(pack)) for pack in packs], closeness, query, k=k, metric=metric), compared


def rerank(packs: Sequence[Pack], query: Vectors, ids: Ids, *, k: int, metric: Metric) -> tuple[list[Ranked], int]:
    """Return the `k` of the candidates `ids` most similar to the query, and how many of them have a live row."""
    rows, closeness = [], []
    for pack in packs:
        _, found = pack.locate(ids)
        found = np.sort(found)  # in the order of the file: pages are read forwards
        rows.append(found)
        products = pack.vectors[found] @ query
        closeness.append(_closeness(products, pack.norms[found], pack.squares[found], metric))
    compared = sum(len(found) for found in rows)
    return _best(packs, rows, closeness, query, k=k, metric=metric), compared


def _closeness(products: Vectors, norms: Vectors, squares: Vectors, metric: Metric) -> npt.NDArray[np.float32]:
    """Return what orders rows as the metric does, float32 [n], from their inner products with the query."""
    if metric == "cosine":
        return products / norms
    return 2.0 * products - squares


def _best(
    packs: Sequence[Pack],
    rows: Sequence[npt.NDArray[np.int64]],
    closeness: Sequence[npt.NDArray[np.float32]],
    query: Vectors,
    *,
    k: int,
    metric: Metric,
) -> list[Ranked]:
    flat = np.concatenate(closeness) if closeness else np.empty(0, dtype=np.float32)
    origin = np.repeat(np.arange(len(packs)), [len(some) for some in rows])
    row = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
    wanted = min(len(flat), k + _SPARE)
    if not wanted:
        return []
    places = np.argpartition(-flat, wanted - 1)[:wanted]
    places = places[np.isfinite(flat[places])]
    ranked = [_exactly(packs[int(origin[place])], int(row[place]), query, metric) for place in places]
    return sorted(ranked, key=lambda one: (one.distance, int(one.pack.ids[one.row])))[:k]


def _exactly(pack: Pack, row: int, query: Vectors, metric: Metric) -> Ranked:
    """Return a row with its score and distance in float64.

    Cosine: score (p·q) / (|p| |q|), distance 1 - score. Euclidean: distance |p - q|, score 1 / (1 + distance).
    """
    point, target = pack.vectors[row].astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        distance = float(np.linalg.norm(point - target))
        return Ranked(pack, row, 1.0 / (1.0 + distance), distance)
    lengths = float(np.linalg.norm(point) * np.linalg.norm(target))
    score = float(np.clip(point @ target / lengths, -1.0, 1.0)) if lengths > 0 else 0.0
    return Ranked(pack, row, score, 1.0 - score)
