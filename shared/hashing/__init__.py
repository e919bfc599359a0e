"""Locality-sensitive hashing: the bucket of a vector, and those its neighbours may be in."""

from shared.hashing.bucket_keys import KEY_BITS, key_names
from shared.hashing.families import FAMILIES
from shared.hashing.serialization import dumps, from_parts, loads
from shared.hashing.types import BucketKeys, FloatArray, HashFamily, HashingError

__all__ = [
    "FAMILIES",
    "KEY_BITS",
    "BucketKeys",
    "FloatArray",
    "HashFamily",
    "HashingError",
    "dumps",
    "from_parts",
    "key_names",
    "loads",
]
