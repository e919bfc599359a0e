"""Locality-sensitive hashing: the bucket of a vector, and those its neighbours may be in."""

from shared.hashing.families import RECALL_TARGET, TABLES, dumps, fit, from_parts, loads
from shared.hashing.mixing import KEY_BITS, key_names
from shared.hashing.types import BucketKeys, FloatArray, HashFamily, HashingError

__all__ = [
    "KEY_BITS",
    "RECALL_TARGET",
    "TABLES",
    "BucketKeys",
    "FloatArray",
    "HashFamily",
    "HashingError",
    "dumps",
    "fit",
    "from_parts",
    "key_names",
    "loads",
]
