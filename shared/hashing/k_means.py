"""k-means by Lloyd's algorithm, which places the centroids of the Voronoi family."""

import numpy as np
import numpy.typing as npt

from shared.hashing.types import FloatArray

_SCORES_AT_ONCE = 1 << 22  # 16 MB


def k_means(
    points: FloatArray, cells: int, *, rng: np.random.Generator, iterations: int = 6
) -> npt.NDArray[np.float64]:
    """Return the centroids of a k-means, [cells, coordinates], from points [n ≥ 1, coordinates].

    It starts at points drawn at random. A cell that loses all its points starts again at a point of a crowded one.
    """
    cells = min(cells, len(points))
    centroids = points[rng.choice(len(points), cells, replace=False)].astype(np.float32)
    for _ in range(iterations):
        home = _nearest(points, centroids)
        counts = np.bincount(home, minlength=cells)
        order = np.argsort(home, kind="stable")
        used = np.flatnonzero(counts)
        starts = np.concatenate([[0], np.cumsum(counts[used])[:-1]])
        centroids[used] = np.add.reduceat(points[order], starts, axis=0) / counts[used, None].astype(np.float32)
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            crowded = counts[home] / counts[home].sum()
            centroids[empty] = points[rng.choice(len(points), len(empty), p=crowded)]
    return centroids.astype(np.float64)


def _nearest(points: FloatArray, centroids: FloatArray) -> npt.NDArray[np.intp]:
    """Return the cell of the nearest centroid of each point, [n]."""
    half = np.einsum("cd,cd->c", centroids, centroids) / 2
    home = np.empty(len(points), dtype=np.intp)
    batch = max(1, _SCORES_AT_ONCE // len(centroids))
    for start in range(0, len(points), batch):
        scores = points[start : start + batch] @ centroids.T
        scores -= half
        home[start : start + batch] = scores.argmax(axis=1)
    return home
