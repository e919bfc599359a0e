"""Ranking: the hits are those of a plain computation in float64, whatever the packs, the metric and the candidates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from services.query import ranking
from services.query.packs import Pack
from shared.catalog import Collection
from shared.query import Metric
from tests import rows
from tests.rows import Vectors

DIM = 32
SIZES = (1, 40, 150, 9)
COUNT = sum(SIZES)
METRICS: tuple[Metric, ...] = ("cosine", "euclidean")
KINDS = ("normalised", "raw", "nearly alike", "far from the origin")

Expected = list[tuple[int, float]]


def make_vectors(kind: str, count: int = COUNT) -> Vectors:
    rng = np.random.default_rng(5)
    points = rng.standard_normal((count, DIM))
    if kind == "normalised":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    elif kind == "raw":
        points = np.abs(points) * rng.lognormal(2, 1, (count, 1))
    elif kind == "nearly alike":
        points = points[0] / np.linalg.norm(points[0]) + 1e-4 * points
    else:
        points = 300 + points
    return points.astype(np.float32)


def make_packs(folder: Path, vectors: Vectors, sizes: Sequence[int] = SIZES) -> list[Pack]:
    """Write vectors, [n, dim], as packs; the image of row i has the number i."""
    collection = Collection("art", "00ff00ff", "lite", 1, vectors.shape[1], 0.0)
    packs = []
    for place, size in enumerate(sizes):
        start = sum(sizes[:place])
        path = folder / f"{place}.arrow"
        path.write_bytes(rows.segment(range(start, start + size), collection, vectors[start : start + size]))
        packs.append(Pack(path, str(place)))
    return packs


def expected(vectors: Vectors, query: Vectors, metric: Metric, numbers: Sequence[int], k: int) -> Expected:
    """Return ids and distances of the nearest of these images, ties by id: plainly, in float64."""
    points: npt.NDArray[np.float64] = vectors[list(numbers)].astype(np.float64)
    target = query.astype(np.float64)
    if metric == "cosine":
        distances = 1 - points @ target / (np.linalg.norm(points, axis=1) * np.linalg.norm(target))
    else:
        distances = np.sqrt(((points - target) ** 2).sum(axis=1))
    pairs = zip(distances.tolist(), rows.ids(numbers), strict=True)
    return [(image, distance) for distance, image in sorted(pairs)[:k]]


def assert_same(found: Sequence[ranking.Ranked], wanted: Expected, metric: Metric) -> None:
    assert len(found) == len(wanted)
    distances = [one.distance for one in found]
    assert distances == sorted(distances)
    assert distances == pytest.approx([distance for _, distance in wanted], abs=1e-12, rel=1e-12)
    assert [int(one.pack.ids[one.row]) for one in found] == [image for image, _ in wanted]
    for one in found:
        score = 1 - one.distance if metric == "cosine" else 1 / (1 + one.distance)
        assert one.score == pytest.approx(score, abs=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 10, COUNT, COUNT + 50])
def test_a_scan_is_the_plain_computation(tmp_path: Path, kind: str, metric: Metric, k: int) -> None:
    vectors = make_vectors(kind)
    packs = make_packs(tmp_path, vectors)
    outside = make_vectors(kind, COUNT + 1)[COUNT] * np.float32(1.01)
    for query in (vectors[17], vectors[60], outside):
        hits, compared = ranking.scan(packs, query, k=k, metric=metric)
        assert compared == COUNT
        assert_same(hits, expected(vectors, query, metric, range(COUNT), k), metric)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_re_rank_is_the_plain_computation_on_the_candidates(tmp_path: Path, kind: str, metric: Metric) -> None:
    vectors = make_vectors(kind)
    packs = make_packs(tmp_path, vectors)
    numbers = sorted(np.random.default_rng(2).choice(COUNT, 77, replace=False).tolist())
    candidates = np.array([*rows.ids(numbers), 1, 2**53 - 1], dtype=np.int64)  # and two that nobody has
    hits, ranked = ranking.rerank(packs, vectors[60], candidates, k=12, metric=metric)
    assert ranked == 77
    assert_same(hits, expected(vectors, vectors[60], metric, numbers, 12), metric)


@pytest.mark.parametrize("metric", METRICS)
def test_all_as_candidates_is_the_scan(tmp_path: Path, metric: Metric) -> None:
    vectors = make_vectors("raw")
    packs = make_packs(tmp_path, vectors)
    everything = np.array(rows.ids(range(COUNT)), dtype=np.int64)
    by_scan, _ = ranking.scan(packs, vectors[3], k=20, metric=metric)
    by_candidates, _ = ranking.rerank(packs, vectors[3], everything, k=20, metric=metric)
    assert by_candidates == by_scan


@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_do_not_count_are_not_found(tmp_path: Path, metric: Metric) -> None:
    vectors = make_vectors("raw")
    packs = make_packs(tmp_path, vectors)
    packs[1].dead[5:20] = True
    packs[2].shadowed[:70] = True
    packs[0].dead[:] = True
    for pack in packs:
        pack.marks_changed()
    numbers = [*range(1, 6), *range(21, 41), *range(111, COUNT)]
    everything = np.array(rows.ids(range(COUNT)), dtype=np.int64)
    for hits, compared in (
        ranking.scan(packs, vectors[8], k=COUNT, metric=metric),
        ranking.rerank(packs, vectors[8], everything, k=COUNT, metric=metric),
    ):
        assert compared == len(numbers)
        assert_same(hits, expected(vectors, vectors[8], metric, numbers, COUNT), metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("alike", [3, 30, 190])
def test_ties_are_broken_by_id_however_many_there_are(tmp_path: Path, metric: Metric, alike: int) -> None:
    vectors = make_vectors("raw")
    numbers = np.random.default_rng(1).choice(COUNT, alike, replace=False)
    vectors[numbers] = vectors[60]
    packs = make_packs(tmp_path, vectors)
    hits, _ = ranking.scan(packs, vectors[60], k=10, metric=metric)
    same = sorted(rows.ids(sorted({60, *numbers.tolist()})))[:10]
    assert [int(hit.pack.ids[hit.row]) for hit in hits][: len(same)] == same
    assert [hit.distance for hit in hits][: len(same)] == pytest.approx([0.0] * len(same), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_what_has_no_direction_is_ranked_without_a_fault(tmp_path: Path, metric: Metric) -> None:
    vectors = make_vectors("raw")
    vectors[70] = 0
    packs = make_packs(tmp_path, vectors)
    hits, _ = ranking.scan(packs, vectors[60], k=COUNT, metric=metric)
    assert len(hits) == COUNT
    assert all(np.isfinite([hit.score, hit.distance]).all() for hit in hits)
    hits, _ = ranking.scan(packs, np.zeros(DIM, np.float32), k=5, metric=metric)
    assert len(hits) == 5
    assert all(np.isfinite([hit.score, hit.distance]).all() for hit in hits)


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_to_rank_gives_no_hits(tmp_path: Path, metric: Metric) -> None:
    query = np.ones(DIM, np.float32)
    none = np.empty(0, dtype=np.int64)
    assert ranking.scan([], query, k=5, metric=metric) == ([], 0)
    assert ranking.rerank([], query, none, k=5, metric=metric) == ([], 0)
    packs = make_packs(tmp_path, make_vectors("raw"))
    assert ranking.rerank(packs, query, none, k=5, metric=metric) == ([], 0)
    for pack in packs:
        pack.dead[:] = True
        pack.marks_changed()
    assert ranking.scan(packs, query, k=5, metric=metric) == ([], 0)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("metric", METRICS)
def test_what_overflows_single_precision_is_ranked_all_the_same(tmp_path: Path, metric: Metric) -> None:
    vectors = make_vectors("raw") * np.float32(1e18)
    packs = make_packs(tmp_path, vectors)
    query = vectors[60] * np.float32(1e17)
    hits, _ = ranking.scan(packs, query, k=10, metric=metric)
    assert_same(hits, expected(vectors, query, metric, range(COUNT), 10), metric)
