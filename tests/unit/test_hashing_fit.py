"""Fitting: what the sample decides, the recall it promises, and samples that decide nothing."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from shared.hashing import RECALL_TARGET, TABLES, FloatArray, HashFamily, HashingError, dumps, fit

DIM = 96


def clustered(seed: int, n: int) -> FloatArray:
    """Points of 40 clusters of unlike size and density in 16 dimensions, turned into 96 with a little noise."""
    layout = np.random.default_rng(77)
    centres = layout.standard_normal((40, 16)) * np.linspace(2, 0.7, 16)
    turn = np.linalg.qr(layout.standard_normal((DIM, 16)))[0].T
    shares = layout.dirichlet(np.ones(40))
    radii = layout.uniform(0.3, 0.9, 40)
    rng = np.random.default_rng(seed)
    cluster = rng.choice(40, n, p=shares)
    points = centres[cluster] + radii[cluster, None] * rng.standard_normal((n, 16))
    rows = points @ turn + 0.05 * rng.standard_normal((n, DIM)) + 1.0
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def nearest(vectors: FloatArray, query: FloatArray, k: int = 10) -> set[int]:
    return set(np.argsort(-(vectors @ query), kind="stable")[:k].tolist())


def candidates(keys: npt.NDArray[np.uint64], probes: npt.NDArray[np.uint64]) -> set[int]:
    """The rows in any of the buckets, table by table."""
    return set(itertools.chain.from_iterable(np.flatnonzero(np.isin(keys[:, t], row)) for t, row in enumerate(probes)))


def measured(
    family: HashFamily, vectors: FloatArray, queries: FloatArray, probes: int | None = None
) -> tuple[float, float]:
    """Return recall@10 against the exact scan, and the mean share of the vectors that are candidates."""
    keys = family.keys(vectors)
    found = [candidates(keys, family.probes(query, probes)) for query in queries]
    recall = [len(nearest(vectors, query) & rows) / 10 for query, rows in zip(queries, found, strict=True)]
    return float(np.mean(recall)), float(np.mean([len(rows) for rows in found])) / len(vectors)


@pytest.fixture(scope="module")
def collection() -> FloatArray:
    return clustered(1, 6000)


@pytest.fixture(scope="module")
def family(collection: FloatArray) -> HashFamily:
    return fit(collection, seed=5)


def occupancy(family: HashFamily, vectors: FloatArray) -> float:
    used = sum(len(np.unique(column)) for column in family.keys(vectors).T)
    return len(vectors) * family.tables / used


def test_new_queries_find_what_the_exact_scan_finds(family: HashFamily, collection: FloatArray) -> None:
    recall, fraction = measured(family, collection, clustered(2, 200))
    assert recall >= 0.95
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
    assert (parameters["trained_on"], parameters["size"], parameters["recall_target"]) == (6000, 6000, RECALL_TARGET)
    assert parameters["width"] == pytest.approx(parameters["width_factor"] * parameters["neighbour_distance"])
    assert 2 <= parameters["width_factor"] <= 10.1


def test_neighbour_distance_is_the_median_to_the_tenth_neighbour_on_the_axes(
    family: HashFamily, collection: FloatArray
) -> None:
    arrays, parameters = family.arrays(), family.parameters()
    centred = collection - arrays["mean"] * 2.0 ** parameters["exponent"]
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    points = centred @ (arrays["axes"] / 2.0**26)
    tenth = [np.sort(np.linalg.norm(points - point, axis=1))[10] for point in points[::10]]
    assert parameters["neighbour_distance"] == pytest.approx(np.median(tenth), rel=0.08)


def test_more_probes_find_more_at_the_same_tables(family: HashFamily, collection: FloatArray) -> None:
    queries = clustered(3, 100)
    recalls = [measured(family, collection, queries, probes)[0] for probes in (1, 4, 16)]
    assert recalls[0] + 0.1 < recalls[1] < recalls[2]


def test_every_bucket_probed_is_the_exact_scan(collection: FloatArray) -> None:
    few = collection[:400]
    family = fit(few, seed=0, tables=2, hashes=5, width=0.9)
    keys = family.keys(few)
    assert len(np.unique(keys[:, 0])) > 20
    wide = fit(few, seed=0, tables=1, hashes=6, width=5.0)  # above 2√6, so that no hash uses more than two slots
    assert len(np.unique(wide.keys(few))) > 2
    for query in clustered(4, 30):
        assert candidates(wide.keys(few), wide.probes(query, 3**6)) == set(range(400))
        reached = candidates(keys, family.probes(query, 3**5))
        assert candidates(keys, family.probes(query, 1)) < reached


def test_a_fit_is_decided_by_sample_and_seed(collection: FloatArray) -> None:
    some = collection[:1500]
    one, again, other = (fit(some, seed=seed, tables=4) for seed in (3, 3, 4))
    assert dumps(one) == dumps(again)
    assert (one.keys(some) != other.keys(some)).mean() > 0.9


def test_a_lower_target_costs_fewer_candidates(collection: FloatArray) -> None:
    some = collection[:3000]
    low, high = (fit(some, seed=0, tables=8, recall_target=target).parameters() for target in (0.7, 0.97))
    assert low["recall"] < high["recall"]
    assert low["candidate_fraction"] < 0.7 * high["candidate_fraction"]


def test_a_collection_to_grow_gets_finer_buckets(collection: FloatArray) -> None:
    small = fit(collection[:1500], seed=0, tables=4, hashes=12)
    grown = fit(collection[:1500], seed=0, tables=4, hashes=12, size=6000)
    assert grown.parameters()["size"] == 6000
    assert grown.parameters()["width"] < small.parameters()["width"]
    assert 2.8 < occupancy(grown, collection) < occupancy(small, collection)


def test_what_is_asked_for_is_taken(collection: FloatArray) -> None:
    parameters = fit(collection[:500], seed=9, tables=3, hashes=7, width=0.8, probes=5).parameters()
    assert {name: parameters[name] for name in ("seed", "tables", "hashes", "width", "probes")} == {
        "seed": 9, "tables": 3, "hashes": 7, "width": 0.8, "probes": 5,
    }  # fmt: skip
    single = fit(collection[:500], seed=9, tables=4, probes=1)
    assert single.probes(collection[0]).shape == (4, 1)


def test_a_large_sample_is_thinned_out(collection: FloatArray) -> None:
    parameters = fit(np.concatenate([collection, clustered(6, 4000)]), seed=0, tables=2, hashes=10).parameters()
    assert (parameters["trained_on"], parameters["size"]) == (6144, 10000)


# Samples that decide little or nothing


@pytest.mark.parametrize("n", [1, 2, 3, 11, 12, 63, 64, 65, 200])
def test_few_vectors_find_each_other(collection: FloatArray, n: int) -> None:
    some = collection[:n]
    family = fit(some, seed=0)
    keys = family.keys(some)
    assert keys.shape == (n, TABLES)
    for row, vector in enumerate(some):
        found = candidates(keys, family.probes(vector))
        assert row in found
        assert len(nearest(some, vector) & found) >= 0.5 * min(n, 10)


@pytest.mark.parametrize("n", [1, 2, 100, 500])
@pytest.mark.parametrize("value", [0.0, 1.0, 3e8])
def test_identical_vectors_share_their_buckets(n: int, value: float) -> None:
    same = np.full((n, DIM), value, dtype=np.float32)
    family = fit(same, seed=0, tables=4)
    assert len(np.unique(family.keys(same), axis=0)) == 1
    assert family.parameters()["neighbour_distance"] == 1.0
    family.keys(clustered(0, 10))


def test_copies_beside_others_leave_the_others_to_be_found() -> None:
    copies = np.repeat(clustered(1, 1), 600, axis=0)
    others = clustered(2, 400)
    vectors = np.concatenate([copies, others])
    recall, _ = measured(fit(vectors, seed=0), vectors, others[:50])
    assert recall > 0.9


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_few_dimensions(dim: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((1000, dim)).astype(np.float32)
    family = fit(vectors, seed=0, tables=4)
    assert family.keys(vectors).shape == (1000, 4)
    assert all((family.probes(row)[:, 0] == family.keys(row[None])[0]).all() for row in vectors[:20])


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
        ({"hashes": 0}, "hashes is 0, expected 1 to 64"),
        ({"probes": 0}, "probes is 0, expected 1 to 1024"),
        ({"size": 0}, "size is 0, expected at least 1"),
        ({"recall_target": 0}, "recall_target is 0, expected above 0 and at most 1"),
        ({"recall_target": 1.1}, "recall_target is 1.1, expected above 0 and at most 1"),
        ({"width": 0.0}, "slot width 0.0 is out of range"),
        ({"width": -1.0}, "slot width -1.0 is out of range"),
        ({"width": float("nan")}, "slot width nan is out of range"),
        ({"family": "cells"}, "hash family 'cells' is unknown, expected 'p-stable'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(HashingError, match=message):
        fit(clustered(0, 20), **{"seed": 0} | arguments)
