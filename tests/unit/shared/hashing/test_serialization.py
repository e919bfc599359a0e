"""Hash families as bytes: they come back as they were, and other bytes are refused."""

import io
import json

import numpy as np
import pytest

from shared.hashing import HashFamily, HashingError, dumps, loads
from shared.tuning import fit
from tests.support.clusters import clustered

DIM = 48


@pytest.fixture(scope="module")
def family() -> HashFamily:
    return fit(clustered(0, 2000, DIM), seed=7, family="p-stable", tables=6, hashes=10)


@pytest.mark.parametrize("n", [2000, 40, 1])
def test_a_stored_family_gives_the_same_keys(n: int) -> None:
    family = fit(clustered(0, n, DIM), seed=1, family="p-stable", tables=4)
    data = dumps(family)
    restored = loads(data)
    assert (restored.family, restored.dim, restored.tables) == ("p-stable", DIM, 4)
    assert restored.parameters() == family.parameters() == json.loads(json.dumps(family.parameters()))
    batch = clustered(8, 300, DIM)
    assert (restored.keys(batch) == family.keys(batch)).all()
    assert all((restored.probes(row) == family.probes(row)).all() for row in batch[:20])
    assert dumps(restored) == data


def test_bytes_that_are_no_family_are_refused(family: HashFamily) -> None:
    data = dumps(family)
    for broken in (b"", b"no archive", data[: len(data) // 2], data[:-1]):
        with pytest.raises(HashingError, match=f"{len(broken)} bytes are no stored hash family"):
            loads(broken)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    with pytest.raises(HashingError, match="no stored hash family"):
        loads(buffer.getvalue())
    pickled = io.BytesIO()
    np.savez(pickled, parameters=np.array([{"family": "p-stable"}], dtype=object))
    with pytest.raises(HashingError, match="no stored hash family"):
        loads(pickled.getvalue())
    listed = io.BytesIO()
    np.savez(listed, parameters=np.frombuffer(b"[]", dtype=np.uint8))
    with pytest.raises(HashingError, match="no stored hash family"):
        loads(listed.getvalue())
