"""How the tuner tries each hash family: a module each, and a line in `TRIALS`."""

from collections.abc import Callable, Iterator

from shared.hashing.families import p_stable as p_stable_hashing
from shared.hashing.families import voronoi as voronoi_hashing
from shared.tuning.cost_model import CostModel
from shared.tuning.families.p_stable import try_p_stable
from shared.tuning.families.voronoi import try_voronoi
from shared.tuning.goal import Goal
from shared.tuning.sampling import Sample
from shared.tuning.trials import Trial

TryFamily = Callable[[Sample, Goal, CostModel], Iterator[Trial]]
"""Yields what a family does on a survey, with the goal's parameters, or those worth trying where it has none."""

TRIALS: dict[str, TryFamily] = {voronoi_hashing.FAMILY: try_voronoi, p_stable_hashing.FAMILY: try_p_stable}
"""How each family is tried, by its name."""
