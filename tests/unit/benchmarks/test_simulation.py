"""Simulated vectors: how their contrast is measured and reached, that a seed gives them anew, what memory they take."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from benchmarks import simulation
from benchmarks.simulation import SimulationError, Vectors, measure_contrast, reduce_dimensions, simulate, unit


def clustered(count: int, dim: int, seed: int) -> Vectors:
    """Vectors of length 1 in forty clusters that have a few directions each."""
    rng = np.random.default_rng(seed)
    centres, ways = rng.standard_normal((40, dim)), rng.standard_normal((40, 6, dim))
    which = rng.integers(40, size=count)
    points = centres[which] + 0.4 * np.einsum("nk,nkd->nd", rng.standard_normal((count, 6)), ways[which])
    return unit(points.astype(np.float32))


REAL = clustered(800, 48, 0)


def brute_contrast(vectors: Vectors) -> float:
    distances = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors, axis=2)
    random = np.median(distances[np.triu_indices(len(vectors), 1)])
    return float(random / np.median(np.sort(distances, axis=1)[:, 10]))  # the vector itself comes first


def test_contrast_is_that_of_all_pairs_and_all_neighbours() -> None:
    vectors = clustered(250, 12, 1)
    assert measure_contrast(vectors).ratio == pytest.approx(brute_contrast(vectors), rel=0.02)


@pytest.mark.parametrize("block", [7, 100, 16_384])
def test_the_block_does_not_change_the_contrast(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = measure_contrast(REAL)
    monkeypatch.setattr(simulation, "_BLOCK", block)
    assert measure_contrast(REAL).tenth == pytest.approx(expected.tenth, rel=1e-4)


def test_by_default_as_many_vectors_have_the_contrast_of_the_real_ones() -> None:
    simulated = simulate(REAL, 4000, 50)
    assert measure_contrast(simulated.vectors[: len(REAL)]).ratio == pytest.approx(
        measure_contrast(REAL).ratio, rel=0.05
    )
    assert simulated.contrast.ratio > measure_contrast(REAL).ratio  # more vectors in the same neighbourhoods lie nearer


def test_fewer_vectors_than_there_are_real_ones_have_the_contrast_of_as_many() -> None:
    simulated = simulate(REAL, 200, 20)
    ratios = [
        measure_contrast(REAL[np.random.default_rng(seed).permutation(len(REAL))[:200]]).ratio for seed in range(5)
    ]
    assert simulated.contrast.ratio == pytest.approx(np.median(ratios), rel=0.06)


@pytest.mark.parametrize("contrast", [1.5, 2.2])
def test_a_contrast_asked_for_is_reached_and_not_exceeded(contrast: float) -> None:
    simulated = simulate(REAL, 2500, 50, contrast=contrast)
    assert 0.97 * contrast <= simulated.contrast.ratio <= contrast
    assert simulated.contrast.ratio == measure_contrast(simulated.vectors).ratio


def test_a_contrast_that_no_spread_gives_is_refused() -> None:
    with pytest.raises(SimulationError, match=r"expected 1\.01: ask for one nearer"):
        simulate(REAL, 1000, 10, contrast=1.01)


def test_a_seed_gives_the_same_vectors_and_another_seed_others() -> None:
    first, again, other = (simulate(REAL, 1500, 30, contrast=1.6, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.vectors, again.vectors)
    np.testing.assert_array_equal(first.queries, again.queries)
    assert not np.isin(first.vectors[:, 0], other.vectors[:, 0]).any()


def test_fewer_vectors_are_the_first_of_more_and_have_the_same_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_DRAWN", 256)
    few, many = simulate(REAL, 900, 30), simulate(REAL, 3000, 40)
    np.testing.assert_array_equal(few.vectors, many.vectors[:900])
    np.testing.assert_array_equal(few.queries, many.queries[:30])


def test_vectors_are_written_to_a_file_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_DRAWN", 256)
    file = tmp_path / "vectors.npy"
    into = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=(1000, REAL.shape[1]))
    half, single = simulate(REAL, 1000, 30, into=into), simulate(REAL, 1000, 30)
    np.testing.assert_array_equal(np.load(file), single.vectors.astype(np.float16))
    np.testing.assert_array_equal(half.queries, single.queries)
    assert half.contrast.ratio == pytest.approx(single.contrast.ratio, rel=1e-3)


def test_queries_are_like_the_vectors_and_are_none_of_them() -> None:
    simulated = simulate(REAL, 3000, 300)
    nearest = np.sort(np.linalg.norm(simulated.queries[:, None] - simulated.vectors, axis=2), axis=1)
    assert nearest[:, 0].min() > 0.01
    assert float(np.median(nearest[:, 9])) == pytest.approx(simulated.contrast.tenth, rel=0.05)


def test_every_row_is_drawn_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_DRAWN", 64)
    simulated = simulate(REAL, 1000, 100)
    lengths = np.linalg.norm(np.concatenate([simulated.vectors, simulated.queries]), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    assert simulated.vectors.dtype == np.float32
    assert len(np.unique(simulated.vectors, axis=0)) == 1000


def test_vectors_lie_in_the_directions_of_their_neighbourhoods() -> None:
    real = np.zeros((200, 30), dtype=np.float32)
    real[:, :4] = np.random.default_rng(0).standard_normal((200, 4))
    simulated = simulate(unit(real), 500, 10)
    assert not simulated.vectors[:, 4:].any()


def test_memory_beside_the_result_is_that_of_some_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_DRAWN", 1024)
    monkeypatch.setattr(simulation, "_BLOCK", 1024)
    monkeypatch.setattr(simulation, "_COMPARED", 1 << 16)
    monkeypatch.setattr(simulation, "_PROBES", 64)
    tracemalloc.start()
    try:
        simulated = simulate(REAL, 60_000, 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * simulated.vectors.nbytes


def test_reduced_vectors_keep_inner_products_as_well_as_so_few_dimensions_can() -> None:
    real = clustered(300, 40, 5)
    small = reduce_dimensions(real, 20)
    assert small.shape == (300, 20)
    np.testing.assert_allclose(np.linalg.norm(small, axis=1), 1, atol=1e-5)
    _, values, axes = np.linalg.svd(real)
    best = unit(real @ axes[:20].T)
    np.testing.assert_allclose(small @ small.T, best @ best.T, atol=1e-3)
    assert values[20] > 0.01  # something was lost, or the comparison would say nothing
    np.testing.assert_allclose(reduce_dimensions(real, 40), real, atol=1e-6)


@pytest.mark.parametrize("dim", [0, 49])
def test_dimensions_that_the_vectors_do_not_have_are_refused(dim: int) -> None:
    with pytest.raises(SimulationError, match="expected 1 to 48"):
        reduce_dimensions(REAL, dim)
