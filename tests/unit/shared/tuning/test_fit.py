"""Fitting: what the sample decides, the recall it promises, and samples that decide nothing."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from shared.hashing import FloatArray, HashFamily, HashingError, dumps
from shared.tuning import RECALL_TARGET, fit
from shared.tuning.families.p_stable import TABLES
from tests.support.clusters import DIM, candidates, clustered, measured, nearest

pytestmark = pytest.mark.slow  # it fits many indexes

FAMILIES = ("voronoi", "p-stable")


@pytest.fixture(scope="module")
def collection() -> FloatArray:
    return clustered(1, 3000)


@pytest.fixture(scope="module")
def family(collection: FloatArray) -> HashFamily:
    return fit(collection, seed=5, family="p-stable")


def occupancy(family: HashFamily, vectors: FloatArray) -> float:
    used = sum(len(np.unique(column)) for column in family.keys(vectors).T)
    return len(vectors) * family.tables / used


# p-stable


def test_new_queries_find_what_the_exact_scan_finds(family: HashFamily, collection: FloatArray) -> None:
    recall, fraction = measured(family, collection, clustered(2, 200))
    assert recall >= 0.93
    assert fraction < 0.25
    parameters = family.parameters()
    assert parameters["recall"] == pytest.approx(recall, abs=0.03)
    assert parameters["candidate_fraction"] == pytest.approx(fraction, rel=0.25)


def test_buckets_are_as_full_as_the_memory_asks_for(family: HashFamily, collection: FloatArray) -> None:
    full = occupancy(family, collection)
    assert 3.3 < full < 8
    assert family.parameters()["occupancy"] == pytest.approx(full, rel=0.1)


def test_parameters_record_what_was_decided_and_measured(family: HashFamily) -> None:
    parameters = family.parameters()
    assert parameters["family"] == family.family == "p-stable"
    assert (parameters["dim"], parameters["tables"], parameters["seed"]) == (DIM, TABLES, 5)
    assert (parameters["size"], parameters["recall_target"]) == (3000, RECALL_TARGET)
    assert parameters["width"] == pytest.approx(parameters["width_factor"] * parameters["neighbour_distance"])
    assert 2 <= parameters["width_factor"] <= 10.1


def test_neighbour_distance_is_the_median_to_the_tenth_neighbour_on_the_axes(
    family: HashFamily, collection: FloatArray
) -> None:
    arrays, parameters = family.arrays(), family.parameters()
    directions = collection / np.linalg.norm(collection.astype(np.float64), axis=1, keepdims=True)
    points = (directions - arrays["mean"] / 2.0**25) @ (arrays["axes"] / 2.0**26)
    tenth = []
    for row in range(0, len(collection), 20):
        others = sorted(nearest(collection, collection[row], 11) - {row})[:10]
        tenth.append(np.linalg.norm(points[others] - points[row], axis=1).max())
    assert parameters["neighbour_distance"] == pytest.approx(np.median(tenth), rel=0.08)


def test_more_probes_find_more_at_the_same_tables(family: HashFamily, collection: FloatArray) -> None:
    queries = clustered(3, 100)
    recalls = [measured(family, collection, queries, probes)[0] for probes in (1, 4, 16)]
    assert recalls[0] + 0.05 < recalls[1] < recalls[2]


def test_every_bucket_probed_is_the_exact_scan(collection: FloatArray) -> None:
    few = collection[:400]
    family = fit(few, seed=0, family="p-stable", tables=2, hashes=5, width=0.9)
    keys = family.keys(few)
    assert len(np.unique(keys[:, 0])) > 20
    # Above 2√6, so that no hash uses more than two slots.
    wide = fit(few, seed=0, family="p-stable", tables=1, hashes=6, width=5.0)
    assert len(np.unique(wide.keys(few))) > 2
    for query in clustered(4, 30):
        assert candidates(wide.keys(few), wide.probes(query, 3**6)) == set(range(400))
        reached = candidates(keys, family.probes(query, 3**5))
        assert candidates(keys, family.probes(query, 1)) < reached


def test_a_lower_target_costs_fewer_candidates(collection: FloatArray) -> None:
    sample = collection[:1500]
    low, high = (
        fit(sample, seed=0, family="p-stable", tables=8, hashes=12, recall_target=target).parameters()
        for target in (0.7, 0.97)
    )
    assert low["recall"] < high["recall"]
    assert low["candidate_fraction"] < 0.7 * high["candidate_fraction"]


def test_a_collection_to_grow_gets_finer_buckets(collection: FloatArray) -> None:
    small, grown = (
        fit(collection[:1500], seed=0, family="p-stable", tables=4, hashes=12, size=size) for size in (None, 6000)
    )
    assert grown.parameters()["size"] == 6000
    assert grown.parameters()["width"] < small.parameters()["width"]
    assert 2.8 < occupancy(grown, collection) < occupancy(small, collection)


def test_what_is_asked_for_is_taken(collection: FloatArray) -> None:
    given = {"seed": 9, "tables": 3, "hashes": 7, "width": 0.8, "probes": 5}
    parameters = fit(collection[:500], family="p-stable", **given).parameters()  # type: ignore[arg-type]
    assert {name: parameters[name] for name in given} == given
    single = fit(collection[:500], seed=9, family="p-stable", tables=4, probes=1)
    assert single.probes(collection[0]).shape == (4, 1)


# Voronoi


def test_the_default_is_voronoi_and_finds_new_queries_among_few_candidates(collection: FloatArray) -> None:
    family = fit(collection, seed=5, cells=1000)
    parameters = family.parameters()
    assert (parameters["family"], parameters["cells"], parameters["size"]) == ("voronoi", 1000, len(collection))
    recall, fraction = measured(family, collection, clustered(2, 200))
    assert recall >= 0.94
    assert fraction < 0.03
    assert family.tables * parameters["probes"] <= 64
    assert parameters["recall"] == pytest.approx(recall, abs=0.02)
    assert parameters["candidate_fraction"] == pytest.approx(fraction, rel=0.15)


def test_cells_tables_and_probes_that_are_asked_for_are_taken(collection: FloatArray) -> None:
    family = fit(collection[:500], seed=9, tables=3, cells=40, probes=5)
    parameters = family.parameters()
    assert {name: parameters[name] for name in ("seed", "tables", "cells", "probes")} == {
        "seed": 9, "tables": 3, "cells": 40, "probes": 5,
    }  # fmt: skip
    assert family.arrays()["centroids"].shape[:2] == (3, 40)
    assert family.probes(collection[0]).shape == (3, 5)
    tables = np.unique(family.keys(collection[:500]), axis=1).shape[1]
    assert tables == 3  # each by a k-means of its own


def test_more_cells_or_probes_than_there_are_vectors_are_as_many_as_there_are(collection: FloatArray) -> None:
    parameters = fit(collection[:30], seed=0, tables=1, cells=500, probes=400).parameters()
    assert (parameters["cells"], parameters["probes"]) == (30, 30)


# Both


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_fit_is_decided_by_sample_and_seed(collection: FloatArray, kind: str) -> None:
    sample = collection[:1000]
    first, again, other = (fit(sample, seed=seed, family=kind, tables=2, cells=100, hashes=8) for seed in (3, 3, 4))
    assert dumps(first) == dumps(again)
    assert (first.keys(sample) != other.keys(sample)).mean() > 0.9


# Samples that decide little or nothing


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 3, 11, 12, 63, 64, 65, 150])
def test_few_vectors_find_each_other(collection: FloatArray, n: int, kind: str) -> None:
    sample = collection[:n]
    family = fit(sample, seed=0, family=kind)
    keys = family.keys(sample)
    assert keys.shape == (n, family.tables)
    shares = []
    for row, vector in enumerate(sample):
        found = candidates(keys, family.probes(vector))
        assert row in found
        neighbours = nearest(sample, vector, min(n, 11)) - {row}
        shares.append(len(neighbours & found) / max(1, len(neighbours)))
    assert n == 1 or np.mean(shares) >= 0.85


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 100])
@pytest.mark.parametrize("value", [0.0, 1.0, 3e8])
def test_identical_vectors_share_their_buckets(n: int, value: float, kind: str) -> None:
    same = np.full((n, DIM), value, dtype=np.float32)
    family = fit(same, seed=0, family=kind, tables=4)
    assert len(np.unique(family.keys(same), axis=0)) == 1
    assert family.parameters().get("neighbour_distance", 1.0) == 1.0
    assert family.parameters()["recall"] == 1.0
    family.keys(clustered(0, 10))


@pytest.mark.parametrize("kind", FAMILIES)
def test_copies_beside_others_leave_the_others_to_be_found(kind: str) -> None:
    copies = np.repeat(clustered(1, 1), 600, axis=0)
    others = clustered(2, 400)
    vectors = np.concatenate([copies, others])
    recall, _ = measured(fit(vectors, seed=0, family=kind, hashes=10), vectors, others[:50])
    assert recall > 0.9


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_few_dimensions(dim: int, kind: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((500, dim)).astype(np.float32)
    family = fit(vectors, seed=0, family=kind, tables=4, hashes=8)
    assert family.keys(vectors).shape == (500, 4)
    assert all((family.probes(row)[:, 0] == family.keys(row[None])[0]).all() for row in vectors[:20])


@pytest.mark.parametrize("kind", FAMILIES)
def test_vectors_without_length_are_hashed(kind: str) -> None:
    vectors = clustered(1, 300)
    vectors[::3] = 0
    family = fit(vectors, seed=0, family=kind, tables=4, hashes=8)
    keys = family.keys(vectors)
    assert (keys[::3] == keys[0]).all()
    assert (family.probes(vectors[0])[:, 0] == keys[0]).all()
    assert family.parameters()["recall"] > 0.9


@pytest.mark.parametrize(
    "sample", [np.zeros((0, 4)), np.zeros(4), np.zeros((2, 0)), np.zeros((1, 1, 1)), np.float32(1)]
)
def test_what_is_no_sample_is_refused(sample: npt.NDArray[Any]) -> None:
    with pytest.raises(HashingError, match=r"the sample has shape .*, expected \[n, dim\]"):
        fit(np.asarray(sample, dtype=np.float32), seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"tables": 0}, "tables is 0, expected 1 to 256"),
        ({"tables": 257}, "tables is 257, expected 1 to 256"),
        ({"cells": 0}, "cells is 0, expected 1 to 65536"),
        ({"hashes": 0}, "hashes is 0, expected 1 to 64"),
        ({"probes": 0}, "probes is 0, expected 1 to 1024"),
        ({"probes": 1025}, "probes is 1025, expected 1 to 1024"),
        ({"size": 0}, "size is 0, expected at least 1"),
        ({"max_lookups": 0}, "max_lookups is 0, expected at least 1"),
        ({"recall_target": 0}, "recall is 0, expected above 0 and at most 1"),
        ({"recall_target": 1.1}, "recall is 1.1, expected above 0 and at most 1"),
        ({"recall_target": float("nan")}, "recall is nan, expected above 0 and at most 1"),
        ({"max_share": 0}, "max_share is 0, expected above 0 and at most 1"),
        ({"max_share": 1.5}, "max_share is 1.5, expected above 0 and at most 1"),
        ({"family": "p-stable", "width": 0.0}, "slot width 0.0 is out of range"),
        ({"family": "p-stable", "width": -1.0}, "slot width -1.0 is out of range"),
        ({"family": "p-stable", "width": float("nan")}, "slot width nan is out of range"),
        ({"family": "cells"}, "hash family 'cells' is unknown, expected one of voronoi, p-stable"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(HashingError, match=message):
        fit(clustered(0, 20), **{"seed": 0} | arguments)
