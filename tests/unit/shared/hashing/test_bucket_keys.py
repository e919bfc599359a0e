"""The names of buckets: what they are made of, and what is no key."""

import numpy as np
import pytest

from shared.hashing import HashFamily, HashingError, key_names
from shared.tuning import fit
from tests.support.clusters import clustered

DIM = 48


@pytest.fixture(scope="module")
def family() -> HashFamily:
    return fit(clustered(0, 2000, DIM), seed=7, family="p-stable", tables=6, hashes=10)


def test_names_hold_prefix_table_and_key(family: HashFamily) -> None:
    keys = family.keys(clustered(7, 5, DIM))
    names = key_names(b"b:\x00\xff", keys)
    assert len(names) == 5 * 6
    for name, (row, table) in zip(names, np.ndindex(5, 6), strict=True):
        assert name == b"b:\x00\xff" + bytes([table]) + int(keys[row, table]).to_bytes(4, "big")
    assert key_names(b"", np.empty((0, 6), dtype=np.uint64)) == []


def test_names_of_what_are_no_keys_are_refused() -> None:
    with pytest.raises(HashingError, match="expected \\[n, tables\\]"):
        key_names(b"", np.zeros(3, dtype=np.uint64))
    with pytest.raises(HashingError, match="at most 256 tables"):
        key_names(b"", np.zeros((1, 257), dtype=np.uint64))
    with pytest.raises(HashingError, match="4294967296 has more than 32 bits"):
        key_names(b"", np.full((1, 1), 2**32, dtype=np.uint64))
