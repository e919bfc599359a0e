"""The perturbation sets against brute force over all of them."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.hashing.bucket_keys import slot_multipliers
from shared.hashing.multi_probe import perturbations


def brute_force(positions: npt.NDArray[np.float64]) -> list[tuple[float, tuple[int, ...]]]:
    """All 3**k sets of a query as (score, move of each hash), the best first."""
    return sorted(
        (sum(((move + 1) / 2 - place) ** 2 for move, place in zip(moves, positions, strict=True) if move), moves)
        for moves in itertools.product((-1, 0, 1), repeat=len(positions))
    )


def added(moves: tuple[int, ...]) -> int:
    return sum(move * int(step) for move, step in zip(moves, slot_multipliers(len(moves)), strict=True)) % 2**64


@pytest.mark.parametrize("hashes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("probes", [1, 2, 7, 30, 243])
def test_sets_are_those_of_least_score_in_order(hashes: int, probes: int) -> None:
    positions = np.random.default_rng(hashes).random((40, hashes))
    sums, scores = perturbations(positions, slot_multipliers(hashes), probes)
    for position, row, score in zip(positions, sums, scores, strict=True):
        expected = brute_force(position)[:probes]
        assert np.allclose(score, [item[0] for item in expected], atol=1e-8)
        assert row.tolist() == [added(moves) for _, moves in expected]


@given(
    hnp.arrays(np.float64, st.tuples(st.just(2), st.integers(1, 5)), elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1])),
    st.integers(1, 80),
)
def test_ties_and_boundaries(positions: npt.NDArray[np.float64], probes: int) -> None:
    sums, scores = perturbations(positions, slot_multipliers(positions.shape[1]), probes)
    for position, row, score in zip(positions, sums, scores, strict=True):
        every = brute_force(position)
        assert score.tolist() == [item[0] for item in every[:probes]]
        assert len(set(row.tolist())) == len(row) == min(probes, 3 ** len(position))
        costs = {added(moves): item for item, moves in every}
        assert [costs[item] for item in row.tolist()] == score.tolist()


def test_many_hashes_and_probes_rise_and_start_with_the_nearest_boundaries() -> None:
    positions = np.random.default_rng(1).random((32, 24))
    sums, scores = perturbations(positions, slot_multipliers(24), 512)
    assert scores.shape == (32, 512)
    assert (sums[:, 0] == 0).all()
    assert (scores[:, 0] == 0).all()
    assert (np.diff(scores, axis=1) >= 0).all()
    assert all(len(set(row.tolist())) == 512 for row in sums)
    nearest = np.sort(np.minimum(positions, 1 - positions), axis=1) ** 2
    assert np.allclose(scores[:, 1], nearest[:, 0])
    assert np.allclose(scores[:, 2], nearest[:, 1])


def test_a_query_has_the_same_probes_alone_and_among_others() -> None:
    positions = np.random.default_rng(2).random((500, 16, 12))
    sums, _ = perturbations(positions, slot_multipliers(12), 40)
    for position, row in zip(positions, sums, strict=True):
        assert (perturbations(position, slot_multipliers(12), 40)[0] == row).all()
