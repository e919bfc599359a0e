"""How the tuner tries the Voronoi family: numbers of cells, tables (each with a k-means of its own) and probes."""

from collections.abc import Iterator

import numpy as np

from shared.hashing.families.voronoi import VoronoiFamily
from shared.hashing.k_means import k_means
from shared.hashing.types import FloatArray
from shared.tuning.cost_model import CostModel
from shared.tuning.goal import Goal
from shared.tuning.sampling import MANY, Sample
from shared.tuning.trials import Trial, trials

_TABLES = (1, 2, 4)
_OCCUPANCIES = (3, 4, 6, 8, 12, 24, 48, 96)  # images of a cell: fewer cost more memory, more cost candidates
_MAX_CELLS = 16_384  # tried, and twice as many in a large collection: hashing costs as many distances per table
_POINTS_PER_CELL = 8  # of a k-means, where the sample is smaller than the collection
_POINTS_PER_QUERY = 4  # at least, where k-means can do without the queries
_MAX_PRODUCTS = 4e6  # multiplications that hashing a query may take
_MAX_TRAINING = 2**37  # multiplications that all k-means may take, about: a minute or two of two cores
_ITERATIONS = 6
_ITERATIONS_OF_MANY = 4  # where cells have but few points each, the rest would follow the sample's accidents
_MANY_CELLS = 8_192
_PROBES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)
_MAX_LOOKUPS = 256  # tried, beyond what is wanted: a recall that takes so many is still had cheaper than by p-stable


def try_voronoi(sample: Sample, goal: Goal, costs: CostModel) -> Iterator[Trial]:
    """Yield what the family does on a sample with the goal's tables, cells and probes, or with those worth trying."""
    points, distinct_share = _training_points(sample)
    work = 0.0
    for cells in _cell_counts(sample, len(points), distinct_share, goal.cells):
        iterations = _ITERATIONS_OF_MANY if cells > _MANY_CELLS else _ITERATIONS
        products = cells * sample.space.size  # of a table
        centroids: list[np.ndarray] = []  # of each table
        for tables in (goal.tables,) if goal.tables is not None else _TABLES:
            work += (tables - len(centroids)) * float(len(points)) * products * iterations
            if goal.tables is None and tables > 1 and (tables * products > _MAX_PRODUCTS or work > _MAX_TRAINING):
                break
            while len(centroids) < tables:
                rng = np.random.default_rng([goal.seed, cells, len(centroids)])
                centroids.append(k_means(points, cells, rng=rng, iterations=iterations))
            family = VoronoiFamily.from_centroids(sample.space, np.stack(centroids), probes=1, seed=goal.seed)
            yield from trials(
                family,
                sample,
                _probe_counts(goal.probes, cells, _MAX_LOOKUPS // tables),
                products=tables * products,
                costs=costs,
            )


def _training_points(sample: Sample) -> tuple[FloatArray, float]:
    """Return the distinct points that k-means is given, in units of the space, and their share of all points.

    Copies are not among them, since no cells are to be spent on telling them apart. Nor are the queries, where they are
    few: a query that had a part in its cell meets its neighbours there more often than a new one would.
    """
    query_rows = sample.query_rows[sample.query_rows >= 0]
    few = len(query_rows) * _POINTS_PER_QUERY <= len(sample.rows)
    points = np.delete(sample.rows, query_rows, axis=0) if few else sample.rows.copy()
    points /= np.float32(sample.space.unit)
    first = np.unique(points.view(np.dtype((np.void, points.itemsize * points.shape[1]))), return_index=True)[1]
    share = len(first) / len(points)
    return points if share == 1 else points[np.sort(first)], share


def _cell_counts(sample: Sample, points: int, distinct_share: float, cells: int | None) -> list[int]:
    """Return the numbers of cells to try, the fewest first; a cell has one of the points at least."""
    if cells is not None:
        return [min(cells, points)]
    most = points // _POINTS_PER_CELL if len(sample.rows) < sample.size else points
    distinct = int(sample.size * distinct_share)
    limits = (_MAX_CELLS,) if sample.size < MANY else (_MAX_CELLS, 2 * _MAX_CELLS)
    return sorted({max(1, min(limit, most, distinct // occupancy)) for limit in limits for occupancy in _OCCUPANCIES})


def _probe_counts(probes: int | None, cells: int, most: int) -> list[int]:
    if probes is not None:
        return [min(probes, cells)]
    most = max(1, min(cells, most))
    return sorted({count for count in _PROBES if count < most} | {most})
