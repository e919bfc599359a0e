"""Fits the p-stable family to a sample: axes, hashes, slot width and probes, chosen by the recall measured on it."""

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.hashing.pstable import PStableFamily
from shared.hashing.space import POINT_BITS, Space, WholeNumbers, checked_vectors, fit_space
from shared.hashing.types import FloatArray

HASHES = (8, 10, 12, 14, 16, 20, 24)
"""What is tried for k. A space of principal axes takes as many of them: with more, directions hold more noise."""

WIDTH_FACTORS = tuple(2 * 1.05**step for step in range(34))
"""What is tried for the slot width, in neighbour distances: 2 to 10. The more axes, the wider the best."""

MIN_OCCUPANCY = 3.5
"""Mean members of a bucket in use, at least: more buckets find a little better, and cost more memory per member."""

MAX_KEYS = 1024
"""Buckets that a query looks into at most, over all tables, when the number of probes is tuned."""

NEIGHBOURS = 10
_MAX_SAMPLE = 6144  # 31 MB of 1,280 components
_MAX_QUERIES = 320
_QUERY_BATCH = 1 << 14  # bucket keys computed at a time
_MIN_SAMPLE_FOR_AXES = 64
_COUNTED_TABLES = 4  # enough to tell how full buckets are
_COARSER = 2  # steps to the next slot width, if one does not reach the target


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a family is to be and to reach: the arguments of `fit`."""

    seed: int
    tables: int
    hashes: int | None
    width: float | None
    probes: int | None
    recall_target: float
    size: int | None


@dataclass(frozen=True, eq=False)
class _Sample:
    """A sample in its space, and some of its vectors as queries, each for its nearest others by the exact scan."""

    space: Space
    coordinates: WholeNumbers  # [n, coordinates]
    queries: npt.NDArray[np.intp]  # [q], rows of the sample
    neighbours: npt.NDArray[np.intp]  # [q, at most 10], rows of the sample

    def on_axes(self, count: int) -> "_Sample":
        """Return the sample on its first principal axes, or itself if it is too small to have any."""
        if self.space.axes is None:
            return self
        return _Sample(self.space.truncated(count), self.coordinates[:, :count], self.queries, self.neighbours)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A family with a number of probes, and what it does on the sample."""

    family: PStableFamily
    reaches: bool
    recall: float
    candidate_fraction: float

    def rank(self) -> tuple[bool, float]:
        """Return what the best trial has most of: reaching the target, then few candidates, or else recall."""
        return self.reaches, -self.candidate_fraction if self.reaches else self.recall


def fit_pstable(vectors: FloatArray, goal: Goal) -> PStableFamily:
    """Return the p-stable family of a sample, float32 [n, dim].

    For each number of hashes, slots are made as narrow as the occupancy of buckets allows, and wider until the probes
    allowed reach the recall target; then the number of hashes with the fewest candidates is taken.

    Raises:
        HashingError: The sample is no [n, dim] of finite numbers, n ≥ 1, or the slot width asked for is out of range.
    """
    vectors = checked_vectors(vectors, None)
    size = max(goal.size or 0, len(vectors))
    rng = np.random.default_rng(goal.seed)
    if len(vectors) > _MAX_SAMPLE:
        vectors = vectors[np.sort(rng.choice(len(vectors), _MAX_SAMPLE, replace=False))]
    sample = _sample(vectors, goal.hashes or max(HASHES), rng)
    tried = HASHES if sample.space.axes is not None else HASHES[:1]
    trials = [
        _narrowest(sample.on_axes(hashes), hashes, goal, size) for hashes in ([goal.hashes] if goal.hashes else tried)
    ]
    best = max(trials, key=_Trial.rank)
    return best.family.recording(
        trained_on=len(vectors),
        size=size,
        recall_target=goal.recall_target,
        recall=best.recall,
        candidate_fraction=best.candidate_fraction,
    )


def _sample(vectors: FloatArray, axes: int, rng: np.random.Generator) -> _Sample:
    """Return the sample in the space of its principal axes, or of all components if it is too small to tell them."""
    space = fit_space(vectors, min(axes, len(vectors) // 8) if len(vectors) >= _MIN_SAMPLE_FOR_AXES else None)
    queries = np.sort(rng.choice(len(vectors), min(_MAX_QUERIES, len(vectors)), replace=False))
    lengths = np.linalg.norm(vectors, axis=1)
    similarities = vectors[queries] @ vectors.T / np.maximum(lengths, np.finfo(np.float32).tiny)
    similarities[np.arange(len(queries)), queries] = -np.inf
    count = min(NEIGHBOURS, len(vectors) - 1)
    rest = len(vectors) - count
    neighbours = np.argpartition(similarities, min(rest, len(vectors) - 1), axis=1)[:, rest:]
    return _Sample(space, space.coordinates(vectors), queries, neighbours)


def _narrowest(sample: _Sample, hashes: int, goal: Goal, size: int) -> _Trial:
    """Return the trial of the narrowest slots that reach the target with buckets full enough, or the widest tried."""

    def drawn(width: float, tables: int) -> PStableFamily:
        return PStableFamily.draw(sample.space, tables=tables, hashes=hashes, width=width, probes=1, seed=goal.seed)

    def occupancy(width: float) -> float:
        return _occupancy(drawn(width, min(goal.tables, _COUNTED_TABLES)), sample.coordinates, size)

    distance = _neighbour_distance(sample)
    widths = [factor * distance for factor in WIDTH_FACTORS] if goal.width is None else [goal.width]
    first = bisect_left(widths, MIN_OCCUPANCY, hi=len(widths) - 1, key=occupancy)
    for width in widths[first::_COARSER]:
        family = drawn(width, goal.tables).recording(
            neighbour_distance=distance, width_factor=width / distance, occupancy=occupancy(width)
        )
        trial = _try(family, sample, goal)
        if trial.reaches:
            break
    return trial


def _neighbour_distance(sample: _Sample) -> float:
    """Return the median distance of a query to its 10th neighbour in the space; 1 if all lie in one point."""
    points = sample.coordinates * 2.0**-POINT_BITS
    squares = np.square(points).sum(axis=1)
    near = squares[sample.queries, None] + squares - 2 * points[sample.queries] @ points.T
    nth = min(NEIGHBOURS, len(points) - 1)
    distances = np.sqrt(np.maximum(np.partition(near, nth, axis=1)[:, nth], 0))
    distances = distances[distances > 2.0**-20]  # nearer ones are one point but for rounding
    return float(np.median(distances)) if len(distances) else 1.0


def _occupancy(family: PStableFamily, coordinates: WholeNumbers, size: int) -> float:
    """Return how many members a bucket in use will have in the mean once the collection has `size` vectors.

    The number of buckets in use is continued from half the sample and all of it as a power of the number of vectors.
    """
    keys = family.keys_at(coordinates)
    half = keys[::2]
    used, used_by_half = (sum(len(np.unique(column)) for column in part.T) for part in (keys, half))
    growth = math.log(used / used_by_half) / math.log(len(keys) / len(half)) if len(half) < len(keys) else 0.0
    return float(keys.size / used * (size / len(keys)) ** (1 - growth))


def _try(family: PStableFamily, sample: _Sample, goal: Goal) -> _Trial:
    """Measure a family with the probes asked for, or the fewest that reach the target, or as many as are allowed.

    The target is reached where the mean recall less its standard error is: the queries are themselves but a sample.
    """
    counts = np.arange(1, MAX_KEYS // goal.tables + 1) if goal.probes is None else np.array([goal.probes])
    ranks = _ranks(family, sample, int(counts[-1]))
    near = np.take_along_axis(ranks, sample.neighbours, axis=1)
    found = (near[..., None] < counts).mean(axis=1) if near.size else np.ones((len(near), len(counts)))
    recall = found.mean(axis=0)
    reaching = np.flatnonzero(recall - found.std(axis=0) / math.sqrt(len(found)) >= goal.recall_target)
    chosen = int(reaching[0]) if len(reaching) else len(counts) - 1
    candidates = float((ranks < counts[chosen]).mean())
    return _Trial(family.recording(probes=int(counts[chosen])), len(reaching) > 0, float(recall[chosen]), candidates)


def _ranks(family: PStableFamily, sample: _Sample, limit: int) -> npt.NDArray[np.uint16]:
    """Return the first probe, from 0, by which each query meets each vector in any table, [q, n].

    A vector that it never meets, and the query itself, are at `limit`.
    """
    queries = sample.coordinates[sample.queries]
    step = max(1, _QUERY_BATCH // (family.tables * limit))
    batches = np.split(queries, range(step, len(queries), step))
    probes = np.concatenate([family.probes_at(batch, limit) for batch in batches])
    ranks = np.full((len(queries), len(sample.coordinates)), limit, dtype=np.uint16)
    backwards = np.arange(probes.shape[2], dtype=np.uint16)[::-1]
    for table, keys in enumerate(family.keys_at(sample.coordinates).T):
        buckets, members = np.unique(keys, return_inverse=True)
        places = np.minimum(np.searchsorted(buckets, probes[:, table]), len(buckets) - 1)
        query, probe = np.nonzero((buckets[places] == probes[:, table])[:, ::-1])
        first = np.full((len(queries), len(buckets)), limit, dtype=np.uint16)
        first[query, places[:, ::-1][query, probe]] = backwards[probe]  # the first probe is written last, and stays
        np.minimum(ranks, np.take(first, members, axis=1), out=ranks)
    ranks[np.arange(len(queries)), sample.queries] = limit
    return ranks
