"""The tuner: surveys a collection, tries hash families on the survey, and prices them."""

from shared.hashing.families import FAMILIES
from shared.tuning.cost_model import CostModel
from shared.tuning.fitting import fit
from shared.tuning.goal import MAX_CANDIDATE_SHARE, MAX_LOOKUPS, RECALL_TARGET, Goal
from shared.tuning.sampling import Sample, survey
from shared.tuning.tuner import Tuning, tune

__all__ = [
    "FAMILIES",
    "MAX_CANDIDATE_SHARE",
    "MAX_LOOKUPS",
    "RECALL_TARGET",
    "CostModel",
    "Goal",
    "Sample",
    "Tuning",
    "fit",
    "survey",
    "tune",
]
