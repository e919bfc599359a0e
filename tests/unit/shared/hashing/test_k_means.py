"""k-means: centroids are means, lessen the distances, and do not stay empty."""

import numpy as np
import numpy.typing as npt
import pytest

from shared.hashing import FloatArray
from shared.hashing.k_means import k_means
from tests.support.clusters import clustered


def homes(points: FloatArray, centroids: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    return np.asarray(np.square(points[:, None] - centroids).sum(axis=2).argmin(axis=1))


def test_a_centroid_is_the_mean_of_its_points() -> None:
    points = np.random.default_rng(0).standard_normal((600, 4)).astype(np.float32)
    centroids = k_means(points, 12, rng=np.random.default_rng(1), iterations=100)
    home = homes(points, centroids)
    assert len(np.unique(home)) == 12
    for cell in range(12):
        assert centroids[cell] == pytest.approx(points[home == cell].mean(axis=0), abs=1e-5)


def test_iterations_lessen_the_distances() -> None:
    points = clustered(4, 800)
    spread = []
    for iterations in (0, 1, 3, 20):
        centroids = k_means(points, 40, rng=np.random.default_rng(1), iterations=iterations)
        spread.append(np.square(points - centroids[homes(points, centroids)]).sum())
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] < 0.9 * spread[0]


def test_cells_that_lose_their_points_start_again() -> None:
    """Each point is there three times, so that cells start at the same point; only the first keeps it."""
    distinct = np.random.default_rng(0).standard_normal((25, 3)).astype(np.float32)
    points = np.repeat(distinct, 3, axis=0)
    start = k_means(points, 25, rng=np.random.default_rng(2), iterations=0)
    assert len(np.unique(start, axis=0)) < 25
    centroids = k_means(points, 25, rng=np.random.default_rng(2), iterations=300)
    assert np.unique(centroids, axis=0) == pytest.approx(np.unique(distinct.astype(np.float64), axis=0), abs=1e-6)


def test_there_are_no_more_cells_than_points() -> None:
    points = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    centroids = k_means(points, 9, rng=np.random.default_rng(1))
    assert np.unique(centroids, axis=0) == pytest.approx(np.unique(points.astype(np.float64), axis=0))
    assert k_means(points[:1], 1, rng=np.random.default_rng(1)) == pytest.approx(points[:1])


def test_one_cell_is_the_mean() -> None:
    points = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    assert k_means(points, 1, rng=np.random.default_rng(1)) == pytest.approx(points.mean(axis=0)[None], abs=1e-6)


def test_identical_points_have_identical_centroids() -> None:
    points = np.full((20, 3), 0.25, dtype=np.float32)
    assert (k_means(points, 4, rng=np.random.default_rng(1)) == 0.25).all()


def test_k_means_is_decided_by_points_and_generator() -> None:
    points = clustered(4, 500)
    first, again, other = (k_means(points, 20, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
