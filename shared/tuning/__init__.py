"""The tuner: surveys a collection, tries hash families on the survey, and prices them."""

from shared.tuning.cost_model import CostModel
from shared.tuning.fitting import RECALL_TARGET, fit
from shared.tuning.sampling import Sample, survey
from shared.tuning.tuner import FAMILIES, Goal, Tuning, tune

__all__ = [
    "FAMILIES",
    "RECALL_TARGET",
    "CostModel",
    "Goal",
    "Sample",
    "Tuning",
    "fit",
    "survey",
    "tune",
]
