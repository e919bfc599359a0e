"""How the tuner tries the p-stable family: numbers of hashes, slot widths and numbers of probes."""

import math
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from shared.hashing.families.p_stable import PStableFamily
from shared.hashing.space import WholeNumbers
from shared.tuning.cost_model import CostModel
from shared.tuning.goal import Goal
from shared.tuning.sampling import Sample
from shared.tuning.trials import Trial, spread, trials

TABLES = 16

HASHES = (8, 12, 16, 24)
"""Numbers of hashes that are tried, on as many principal axes: with more axes, directions hold more noise."""

WIDTH_FACTORS = tuple(2 * 1.05**step for step in range(34))
"""Slot widths that are tried, in neighbour distances: 2 to 10. The more axes, the wider the best."""

MIN_OCCUPANCY = 3.5
"""Mean members of a bucket in use, at least: more buckets find a little better, and cost more memory per member."""

MAX_KEYS = 1024
"""Buckets that a query looks into at most, over all tables, when the number of probes is tried."""

_OCCUPANCY_TABLES = 4  # enough to tell how full buckets are
_OCCUPANCY_ROWS = 6144
_WIDTH_STEP = 2  # places of `WIDTH_FACTORS` from a slot width that misses the recall to the next


def try_p_stable(sample: Sample, goal: Goal, costs: CostModel) -> Iterator[Trial]:
    """Yield what the family does on a sample with the goal's tables, hashes, width and probes, or those worth trying.

    For each number of hashes, slots are as narrow as the occupancy of buckets allows, and wider until the probes
    allowed reach the recall. Where the goal keeps to its share of candidates, each is also tried with its candidates
    cut to that share.

    Raises:
        HashingError: The slot width is out of range.
    """
    tried = HASHES if sample.space.axes is not None else HASHES[:1]
    for hashes in (goal.hashes,) if goal.hashes is not None else tried:
        yield from _narrowest(sample.on_axes(hashes), hashes, goal, costs)


def _narrowest(sample: Sample, hashes: int, goal: Goal, costs: CostModel) -> list[Trial]:
    """Return the trials of the narrowest slots that reach the recall with buckets full enough, or of the widest."""
    tables = goal.tables or TABLES
    rows = sample.rows[spread(len(sample.rows), _OCCUPANCY_ROWS)].astype(np.float64)

    def drawn(width: float, tables: int) -> PStableFamily:
        return PStableFamily.draw(sample.space, tables=tables, hashes=hashes, width=width, probes=1, seed=goal.seed)

    def occupancy(width: float) -> float:
        return _occupancy(drawn(width, min(tables, _OCCUPANCY_TABLES)), rows, sample.size)

    distance = _neighbour_distance(sample)
    widths = [factor * distance for factor in WIDTH_FACTORS] if goal.width is None else [goal.width]
    first = bisect_left(widths, MIN_OCCUPANCY, hi=len(widths) - 1, key=occupancy)
    found: list[Trial] = []
    for width in widths[first::_WIDTH_STEP]:
        family = drawn(width, tables).with_parameters(
            neighbour_distance=distance, width_factor=width / distance, occupancy=occupancy(width)
        )
        found = list(
            trials(
                family,
                sample,
                _probe_counts(goal.probes, tables),
                products=float(sample.space.size * tables * hashes),
                costs=costs,
                budget_share=goal.max_share if goal.keep_share else None,
            )
        )
        if any(trial.recall_lower_bound >= goal.recall for trial in found):
            break
    return found


def _probe_counts(probes: int | None, tables: int) -> list[int]:
    if probes is not None:
        return [probes]
    most = max(1, MAX_KEYS // tables)
    return sorted({min(most, round(1.4**step)) for step in range(math.ceil(math.log(most, 1.4)) + 1)})


def _neighbour_distance(sample: Sample) -> float:
    """Return the median distance of a query to its last neighbour in the space; 1 if all lie in one point."""
    differences = (sample.neighbours - sample.queries[:, None]) / sample.space.unit
    distances = np.sqrt(np.square(differences).sum(axis=2)).max(axis=1, initial=0.0)
    distances = distances[distances > 2.0**-20]  # nearer points differ by rounding alone
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
