"""The Voronoi family: cells against exact distances in whole numbers, probes, and its stored form."""

import json
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.hashing import FloatArray, HashFamily, HashingError, dumps, from_parts, loads
from shared.hashing.families import voronoi
from shared.hashing.families.voronoi import VoronoiFamily
from shared.hashing.k_means import k_means
from shared.hashing.space import Space, fit_space, input_bits
from shared.tuning import fit
from tests.support.clusters import clustered, measured

Whole = npt.NDArray[np.int32]


def family_of(centroids: Whole, mean: Whole | None = None) -> HashFamily:
    """A family with these centroids, [tables, cells, dim], whose points are the whole parts of vectors, less a mean."""
    tables, cells, dim = centroids.shape
    # Coordinates are in steps of 2**-input_bits of a unit that is 2**18.
    parameters = {
        "family": "voronoi", "dim": dim, "tables": tables, "cells": cells, "probes": 1, "seed": 0,
        "exponent": 18 - input_bits(dim), "scaling": "none",
    }  # fmt: skip
    fine = np.zeros(dim, dtype=np.int32) if mean is None else mean << (input_bits(dim) - 18)
    return from_parts(parameters, {"mean": fine.astype(np.int32), "centroids": centroids})


def exact_squares(point: list[int], centroids: Whole) -> list[int]:
    """The squared distances of a point from centroids, [cells, dim], in Python's integers."""
    return [sum((p - c) ** 2 for p, c in zip(point, centroid, strict=True)) for centroid in centroids.tolist()]


def whole(vector: FloatArray) -> list[int]:
    """A vector in whole numbers, halves to the even one, none beyond 2**18."""
    return [max(-(2**18), min(2**18, round(Fraction(value)))) for value in vector.tolist()]


@st.composite
def cells_and_vectors(draw: st.DrawFn) -> tuple[Whole, FloatArray]:
    """Centroids and vectors on a small grid, which may lie so far from the origin that float32 cannot tell them apart.

    Ties, copies of centroids and of vectors are many.
    """
    dim, cells, tables = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 2))
    origin = np.array(draw(st.lists(st.sampled_from([0, 5000, 131_075, -200_001]), min_size=dim, max_size=dim)))
    small = st.integers(-3, 3)
    count = tables * cells * dim
    offsets = np.array(draw(st.lists(small, min_size=count, max_size=count))).reshape(tables, cells, dim)
    number = draw(st.integers(1, 8))
    steps = np.array(draw(st.lists(small, min_size=number * dim, max_size=number * dim))).reshape(number, dim)
    return (origin + offsets).astype(np.int32), (origin + steps).astype(np.float32)


# The cell


@given(cells_and_vectors())
def test_the_cell_is_that_of_the_nearest_centroid_and_of_equals_the_first(drawn: tuple[Whole, FloatArray]) -> None:
    centroids, vectors = drawn
    keys = family_of(centroids).keys(vectors)
    assert keys.dtype == np.uint64
    for vector, row in zip(vectors, keys.tolist(), strict=True):
        for table, key in enumerate(row):
            squares = exact_squares(whole(vector), centroids[table])
            assert key == squares.index(min(squares))


@given(cells_and_vectors())
def test_keys_do_not_depend_on_the_batch(drawn: tuple[Whole, FloatArray]) -> None:
    centroids, vectors = drawn
    family = family_of(centroids)
    keys = family.keys(vectors)
    assert (np.concatenate([family.keys(row[None]) for row in vectors]) == keys).all()
    assert (family.keys(np.tile(vectors, (7, 1)))[-len(vectors) :] == keys).all()
    assert (family.keys(vectors[::-1])[::-1] == keys).all()


@pytest.mark.parametrize("dim", [1, 2, 7, 128])
def test_points_on_the_border_of_cells_fall_to_the_first(dim: int) -> None:
    """Midway between two centroids; all far from the origin, where float32 is wrong about most of them."""
    rng = np.random.default_rng(dim)
    base = rng.integers(-(2**17), 2**17, dim)
    centroids = (base + 2 * rng.integers(-40, 41, (1, 60, dim))).astype(np.int32)
    centroids[0, 50:] = centroids[0, :10]
    first, second = centroids[0, rng.integers(0, 60, 400)], centroids[0, rng.integers(0, 60, 400)]
    middles = (first + second) // 2
    points = np.concatenate([middles, middles + rng.integers(-1, 2, middles.shape), centroids[0]])
    squares = np.square(points[:, None].astype(np.int64) - centroids[0].astype(np.int64)).sum(axis=2)
    assert (np.sort(squares, axis=1)[:, 0] == np.sort(squares, axis=1)[:, 1]).mean() > 0.1
    family = family_of(centroids)
    assert (family.keys(points.astype(np.float32))[:, 0] == squares.argmin(axis=1)).all()
    single = points.astype(np.float32) @ centroids[0].astype(np.float32).T
    single -= (centroids[0].astype(np.float32) ** 2).sum(axis=1) / 2
    assert (single.argmax(axis=1) != squares.argmin(axis=1)).any()


def test_fractions_of_a_step_are_rounded_to_even() -> None:
    centroids = np.array([[[0, 0], [1, 0], [2, 0], [3, 0], [4, 1]]], dtype=np.int32)
    vectors = np.array([[0.5, 0], [1.5, 0], [2.5, 0.4], [2.51, 0], [3.5, 0.51], [0.499, 0]], dtype=np.float32)
    assert family_of(centroids).keys(vectors)[:, 0].tolist() == [0, 2, 2, 3, 4, 0]
    expected = [squares.index(min(squares)) for squares in (exact_squares(whole(v), centroids[0]) for v in vectors)]
    assert expected == [0, 2, 2, 3, 4, 0]


def test_lengths_beyond_all_of_the_sample_are_cut_off() -> None:
    centroids = np.array([[[2**18, 0], [0, 2**18], [2**18, 2**18], [5, 5]]], dtype=np.int32)
    vectors = np.array([[3e38, 0], [-1, 1e30], [2**19, 2**20], [-1e9, -1e9]], dtype=np.float32)
    assert family_of(centroids).keys(vectors)[:, 0].tolist() == [0, 1, 2, 3]


def test_the_mean_is_subtracted() -> None:
    centroids = np.array([[[0, 0], [10, 0]]], dtype=np.int32)
    family = family_of(centroids, mean=np.array([100, -7], dtype=np.int32))
    assert family.keys(np.array([[104, -7], [106, -7]], dtype=np.float32))[:, 0].tolist() == [0, 1]


# What is fitted


@pytest.fixture(scope="module")
def collection() -> FloatArray:
    return clustered(1, 2500)


@pytest.fixture(scope="module")
def family(collection: FloatArray) -> HashFamily:
    return fit(collection, seed=3, tables=3, cells=250, probes=4)


def test_cells_of_a_fitted_family_are_those_of_exact_distances(family: HashFamily) -> None:
    arrays, batch = family.arrays(), clustered(5, 300)
    space = Space.from_parts(family.parameters(), arrays)
    # Points in steps of 2**-18 of length 1; their squares fit into 64 bits.
    points = np.rint(space.coordinates(batch) / 2**7).astype(np.int64)
    for table, centroids in enumerate(arrays["centroids"].astype(np.int64)):
        squares = np.square(points[:, None] - centroids).sum(axis=2)
        assert (family.keys(batch)[:, table] == squares.argmin(axis=1)).all()


def test_a_vector_has_the_same_cells_alone_and_in_any_batch(
    family: HashFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = clustered(2, 3000)
    keys = family.keys(many)
    assert keys.shape == (3000, 3)
    assert (np.concatenate([family.keys(row[None]) for row in many[:800]]) == keys[:800]).all()
    assert (np.concatenate([family.keys(many[start : start + 37]) for start in range(0, 3000, 37)]) == keys).all()
    assert (family.keys(np.asfortranarray(many)) == keys).all()
    monkeypatch.setattr(voronoi, "_SCORES_AT_ONCE", 1000)
    assert (family.keys(many) == keys).all()


def test_every_table_has_cells_of_its_own(family: HashFamily, collection: FloatArray) -> None:
    keys = family.keys(collection)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        same = (keys[:, None, first] == keys[None, :, first]) & ~np.eye(len(keys), dtype=bool)
        both = same & (keys[:, None, second] == keys[None, :, second])
        assert 0.1 < both.sum() / same.sum() < 0.9


def test_no_vectors_have_no_cells(family: HashFamily) -> None:
    assert family.keys(np.empty((0, family.dim), dtype=np.float32)).shape == (0, 3)


# Probes


@given(cells_and_vectors(), st.integers(1, 12))
def test_probes_come_in_the_order_of_distance_with_home_first(drawn: tuple[Whole, FloatArray], probes: int) -> None:
    centroids, vectors = drawn
    family = family_of(centroids)
    near = bool((np.abs(centroids) < 100).all())  # where float32 is exact
    cells = centroids.shape[1]
    together = family.probes_of_each(vectors, probes)
    for vector, home, of_batch in zip(vectors, family.keys(vectors), together, strict=True):
        looked = family.probes(vector, probes)
        assert (of_batch[:, 0] == home).all()
        assert not near or (of_batch == looked).all()
        assert looked.shape == (len(centroids), min(probes, cells))
        assert (looked[:, 0] == home).all()
        for table, row in enumerate(looked.tolist()):
            assert len(set(row)) == len(row)
            squares = exact_squares(whole(vector), centroids[table])
            if near:
                assert [squares[cell] for cell in row] == sorted(squares)[: len(row)]
            if probes >= cells:
                assert sorted(row) == list(range(cells))


def test_probes_of_a_fitted_family_are_the_nearest_cells(family: HashFamily) -> None:
    arrays, batch = family.arrays(), clustered(6, 100)
    points = Space.from_parts(family.parameters(), arrays).coordinates(batch) / 2**7
    for vector, point in zip(batch, points, strict=True):
        looked = family.probes(vector, 40)
        assert (looked[:, :7] == family.probes(vector, 7)).mean() >= 0.7  # but for cells that are equally far
        assert (family.probes(vector) == looked[:, :4]).all()
        for row, centroids in zip(looked, arrays["centroids"], strict=True):
            squares = np.square(centroids - point).sum(axis=1)
            assert np.allclose(squares[row.astype(int)], np.sort(squares)[:40], rtol=0, atol=2e-6 * 2**36)


def test_more_probes_than_there_are_cells_are_all_cells() -> None:
    """However many cells there are: more than there may be probes by default."""
    centroids = np.random.default_rng(0).integers(-(2**17), 2**17, (2, 1500, 3)).astype(np.int32)
    family = family_of(centroids)
    for probes in (1500, 1501, 65_536):
        assert (np.sort(family.probes(np.zeros(3, dtype=np.float32), probes), axis=1) == np.arange(1500)).all()


@pytest.mark.parametrize("probes", [0, -1, 65_537])
def test_numbers_of_probes_out_of_range_are_refused(family: HashFamily, probes: int) -> None:
    with pytest.raises(HashingError, match=f"{probes} probes, expected 1 .* to 65536"):
        family.probes(clustered(0, 1)[0], probes)


def test_what_is_no_query_is_refused(family: HashFamily) -> None:
    with pytest.raises(HashingError, match=r"shape \(1, 96\), expected \(96,\)"):
        family.probes(clustered(0, 1))
    with pytest.raises(HashingError, match=r"expected \[n, 96\]"):
        family.probes(clustered(0, 1)[0, :7])
    with pytest.raises(HashingError, match=r"expected \[n, 96\]"):
        family.keys(clustered(0, 2)[:, :7])
    bad = clustered(0, 2)
    bad[1, 3] = np.nan
    with pytest.raises(HashingError, match="vector 1 has nan at component 3"):
        family.keys(bad)


# The stored form


def test_a_stored_family_is_the_same_bit_for_bit(family: HashFamily) -> None:
    data = dumps(family)
    restored = loads(data)
    assert (restored.family, restored.dim, restored.tables) == ("voronoi", 96, 3)
    assert restored.parameters() == family.parameters() == json.loads(json.dumps(family.parameters()))
    assert restored.arrays().keys() == family.arrays().keys()
    for name, array in family.arrays().items():
        assert restored.arrays()[name].dtype == array.dtype
        assert (restored.arrays()[name] == array).all()
    batch = clustered(8, 300)
    assert (restored.keys(batch) == family.keys(batch)).all()
    assert all((restored.probes(row) == family.probes(row)).all() for row in batch[:20])
    assert dumps(restored) == data


def test_a_family_with_other_probes_has_the_same_keys(collection: FloatArray) -> None:
    space = fit_space(collection, 16)
    points = (space.coordinates(collection) / space.unit).astype(np.float32)
    centroids = k_means(points, 30, rng=np.random.default_rng(0))
    family = VoronoiFamily.from_centroids(space, centroids[None], probes=2, seed=0)
    second = family.with_parameters(probes=5, note="more")
    assert (second.keys(collection) == family.keys(collection)).all()
    assert family.probes(collection[0]).shape == (1, 2)
    assert second.probes(collection[0]).shape == (1, 5)
    assert (second.parameters()["note"], "note" in family.parameters()) == ("more", False)
    assert loads(dumps(second)).parameters() == second.parameters()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dim", None), ("dim", 95), ("tables", 2), ("tables", 0), ("tables", 257), ("tables", "3"), ("cells", 249),
        ("cells", 0), ("cells", 65_537), ("probes", 0), ("probes", True), ("probes", 65_537), ("exponent", 1.5),
        ("scaling", "later"), ("scaling", None),
    ],
)  # fmt: skip
def test_parameters_that_do_not_fit_are_refused(family: HashFamily, name: str, value: object) -> None:
    with pytest.raises(HashingError, match=r"expected"):
        from_parts(family.parameters() | {name: value}, family.arrays())


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("mean", np.zeros(96, dtype=np.int64)), ("mean", np.zeros(97, dtype=np.int32)),
        ("mean", np.full(96, 2**30, dtype=np.int32)), ("axes", np.zeros((96, 3), dtype=np.int32)),
        ("axes", np.zeros(96, dtype=np.int32)), ("centroids", np.zeros((3, 250), dtype=np.int32)),
        ("centroids", np.zeros((3, 250, 96), dtype=np.float32)),
        ("centroids", np.full((3, 250, 96), 2**20, dtype=np.int32)),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(family: HashFamily, name: str, array: npt.NDArray[Any]) -> None:
    with pytest.raises(HashingError, match=r"array (mean|axes|centroids) (is|has) .*, expected"):
        from_parts(family.parameters(), family.arrays() | {name: array})


@pytest.mark.parametrize("name", ["mean", "centroids"])
def test_missing_arrays_are_named(family: HashFamily, name: str) -> None:
    arrays = {other: array for other, array in family.arrays().items() if other != name}
    with pytest.raises(HashingError, match=f"array {name} is missing"):
        from_parts(family.parameters(), arrays)


def test_a_family_cut_short_is_refused(family: HashFamily) -> None:
    data = dumps(family)
    for broken in (data[: len(data) // 2], data[:-1]):
        with pytest.raises(HashingError, match=f"{len(broken)} bytes are no stored hash family"):
            loads(broken)


# Copies, and Euclidean distances


def test_no_cells_are_spent_on_copies() -> None:
    vectors = np.concatenate([np.repeat(clustered(1, 1), 400, axis=0), clustered(2, 200)])
    family = fit(vectors, seed=0, tables=1, cells=100)
    assert len(np.unique(family.arrays()["centroids"][0], axis=0)) == 100
    assert len(np.unique(family.keys(vectors))) > 90


def test_lengths_count_for_euclidean_distances_alone() -> None:
    """Vectors of much the same direction: who hashes directions cannot tell the nearest from the others."""
    rng = np.random.default_rng(1)

    def along_a_ray(n: int) -> FloatArray:
        points = clustered(1, 1) * rng.lognormal(0, 1, (n, 1)) + rng.normal(0, 1e-4, (n, 96))
        return points.astype(np.float32)

    vectors, queries = along_a_ray(3000), along_a_ray(40)
    family = fit(vectors, seed=0, tables=1, cells=300, probes=8, metric="euclidean")
    recall, share = measured(family, vectors, queries, metric="euclidean")
    assert family.parameters()["scaling"] == "none"
    assert recall > 0.9
    assert share < 0.1
    assert family.parameters()["recall"] == pytest.approx(recall, abs=0.05)
    directions = fit(vectors, seed=0, tables=1, cells=300, probes=8)
    assert directions.parameters()["scaling"] == "before"
    assert measured(directions, vectors, queries, metric="euclidean")[0] < 0.5


def test_a_vector_far_longer_than_those_the_space_was_fitted_to_has_a_cell() -> None:
    rng = np.random.default_rng(0)
    sample = (rng.standard_normal((300, 200)) * 0.1 + rng.standard_normal((300, 1))).astype(np.float32)
    space = fit_space(sample, 16, scaling="none")
    far = np.full((1, 200), 300, dtype=np.float32)
    points = (space.coordinates(np.concatenate([sample, far])) / space.unit).astype(np.float32)
    centroids = k_means(points, 301, rng=np.random.default_rng(0))
    assert np.abs(centroids).max() > 2
    family = VoronoiFamily.from_centroids(space, centroids[None], probes=1, seed=0)
    assert family.keys(far)[0, 0] not in family.keys(sample)
    assert len(np.unique(family.keys(sample))) == 300


@given(cells_and_vectors())
def test_every_key_of_a_vector_is_among_all_keys(parts: tuple[Whole, FloatArray]) -> None:
    centroids, vectors = parts
    family = family_of(centroids)
    every = family.every_key()
    assert every is not None
    assert every.shape == (centroids.shape[1], centroids.shape[0])
    for table in range(family.tables):
        assert len(set(every[:, table].tolist())) == len(every)
        assert set(family.keys(vectors)[:, table].tolist()) <= set(every[:, table].tolist())
