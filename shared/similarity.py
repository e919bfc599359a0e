"""Distance and score of embeddings by a metric: the one definition that searches and their evaluation share."""

import numpy as np
import numpy.typing as npt

from shared.search_limits import Metric

Floats = npt.NDArray[np.float64]


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
        return distances, 1 / (1 + distances)
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points) * np.einsum("...j,...j->...", target, target))
    products = np.einsum("ij,ij->i", points, np.broadcast_to(target, points.shape))
    scores: Floats = np.clip(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0), -1, 1)
    return 1 - scores, scores
