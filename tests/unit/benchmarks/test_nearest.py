"""The least values of rows that come in blocks, against a sort of all."""

import numpy as np
import pytest

from benchmarks.nearest import keep_least


@pytest.mark.parametrize("size", [1, 3, 10, 400])
def test_the_least_of_all_blocks_are_kept(size: int) -> None:
    values = np.random.default_rng(0).integers(0, 60, (7, 400)).astype(np.float32)  # with many ties
    best = np.full((7, 10), np.inf, dtype=np.float32)
    for start in range(0, 400, size):
        keep_least(best, values[:, start : start + size])
    np.testing.assert_array_equal(np.sort(best, axis=1), np.sort(values, axis=1)[:, :10])


def test_fewer_values_than_are_kept_leave_room() -> None:
    best = np.full((1, 4), np.inf, dtype=np.float32)
    keep_least(best, np.array([[2.0, 1.0]], dtype=np.float32))
    np.testing.assert_array_equal(np.sort(best, axis=1), [[1, 2, np.inf, np.inf]])
