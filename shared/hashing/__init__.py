"""Locality-sensitive hashing: the bucket of a vector, and those its neighbours may be in."""

from shared.hashing.costs import CostModel
from shared.hashing.families import RECALL_TARGET, dumps, fit, from_parts, loads
from shared.hashing.mixing import KEY_BITS, key_names
from shared.hashing.sample import Metric, Sample, survey
from shared.hashing.tuning import FAMILIES, Goal, Tuning, tune
from shared.hashing.types import BucketKeys, FloatArray, HashFamily, HashingError

__all__ = [
    "FAMILIES",
    "KEY_BITS",
    "RECALL_TARGET",
    "BucketKeys",
    "CostModel",
    "FloatArray",
    "Goal",
    "HashFamily",
    "HashingError",
    "Metric",
    "Sample",
    "Tuning",
    "dumps",
    "fit",
    "from_parts",
    "key_names",
    "loads",
    "survey",
    "tune",
]
