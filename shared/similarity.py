"""Distance and score of embeddings by a metric: the one definition that searches and their evaluation share."""

from typing import Final

import numpy as np
import numpy.typing as npt

from shared.search_limits import Metric

Floats = npt.NDArray[np.float64]

WINDOW_FACTOR: Final = 1.2
"""How many times as much as that of a whole image the cosine distance of a window counts.

An image has dozens of windows, of which one or another is close to a query by chance. With this factor the neighbours
of whole images are as often of their class as without windows, and details are found as often as with equal distances
(`docs/benchmarks.md`, Regions).
"""


def distances_and_scores(points: Floats, query: npt.NDArray[np.float32], metric: Metric) -> tuple[Floats, Floats]:
    """Return distances and scores of rows, float64 [n, dim], which are overwritten; float64 [n].

    The query is float32 [dim], or [n, dim]: one for each row. That makes no difference to the last bit.

    Cosine: score (p·q) / (|p| |q|), distance 1 - score. Euclidean: distance |p - q|, score 1 / (1 + distance).
    """
    target = query.astype(np.float64)
    # einsum, since BLAS may give two rows that are alike results that differ in the last bit.
    if metric == "euclidean":
        points -= target
        distances: Floats = np.sqrt(np.einsum("ij,ij->i", points, points))
        return distances, _scores(distances, metric)
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points) * np.einsum("...j,...j->...", target, target))
    products = np.einsum("ij,ij->i", points, np.broadcast_to(target, points.shape))
    scores: Floats = np.clip(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0), -1, 1)
    return 1 - scores, scores


def as_of_windows(distances: Floats, metric: Metric) -> tuple[Floats, Floats]:
    """Return the distances and scores that count for windows at so many distances from a query, float64 [n].

    Cosine distances are multiplied by `WINDOW_FACTOR`. Euclidean ones are multiplied by its square root: that of two
    vectors of length 1 is the square root of twice their cosine distance.
    """
    counted = distances * (WINDOW_FACTOR**0.5 if metric == "euclidean" else WINDOW_FACTOR)
    return counted, _scores(counted, metric)


def _scores(distances: Floats, metric: Metric) -> Floats:
    return 1 / (1 + distances) if metric == "euclidean" else 1 - distances
