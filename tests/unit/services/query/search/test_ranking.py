"""Ranking: the hits are those of a plain computation in float64, whatever segments, metric and candidates."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from services.query.replica.mapped_segment import MappedSegment
from services.query.replica.row_table import RowTable
from services.query.replica.view import Filter, RowFilter, View
from services.query.search import best_rows, ranking
from services.query.search.ranking import Hit
from shared.rpc.query import Metric
from shared.storage import segments
from tests.support import rows
from tests.support.rows import Vectors
from tests.support.windows import COUNTED

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


def make_view(
    folder: Path,
    vectors: Vectors,
    sizes: Sequence[int] = SIZES,
    *,
    deleted: Sequence[int] = (),
    half: Sequence[int] = (),
) -> View:
    """Write vectors, [n, dim], as segments; the image of row i has the number i. Segments in `half` are of float16."""
    mapped_segments = []
    for place, size in enumerate(sizes):
        start = sum(sizes[:place])
        path = folder / f"{place}.arrow"
        some = vectors[start : start + size]
        data = segments.pack(
            [rows.entry(number) for number in range(start, start + size)],
            some.astype(np.float16) if place in half else some,
            collection="art",
            model="lite",
            version=1,
        )
        path.write_bytes(data)
        mapped_segments.append(MappedSegment(path))
    table = RowTable()
    table.swap(mapped_segments)
    table.add_tombstones({mapped.name: set(rows.ids(list(deleted))) for mapped in mapped_segments})
    return table.view


def scan(view: View, query: Vectors, *, k: int, metric: Metric) -> list[Hit]:
    return ranking.rank(view, query[np.newaxis], RowFilter(view, Filter()).rows(), k=k, metric=metric)[0]


def rerank(view: View, query: Vectors, ids: Sequence[int], *, k: int, metric: Metric) -> list[Hit]:
    found = view.find(np.array(ids, dtype=np.int64))
    return ranking.rank(view, query[np.newaxis], np.sort(found[found >= 0]), k=k, metric=metric)[0]


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


def assert_same(found: Sequence[Hit], wanted: Expected, metric: Metric) -> None:
    assert len(found) == len(wanted)
    distances = [one.distance for one in found]
    assert distances == sorted(distances)
    assert distances == pytest.approx([distance for _, distance in wanted], abs=1e-12, rel=1e-12)
    assert [one.image_id for one in found] == [image for image, _ in wanted]
    for one in found:
        score = 1 - one.distance if metric == "cosine" else 1 / (1 + one.distance)
        assert one.score == pytest.approx(score, abs=1e-15)


@pytest.fixture(params=["as they are", "a row or two"], autouse=True)
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in blocks of their usual size, which hold all rows here, and in tiny ones, by several threads."""
    if request.param == "a row or two":
        for name, numbers in (("_EXACT", 2), ("_GATHERED", 3), ("_SCANNED", 14), ("_SHARED", 5)):
            monkeypatch.setattr(ranking, name, numbers * DIM)
        monkeypatch.setattr(ranking, "_FEW", 2)
        monkeypatch.setattr(ranking, "THREADS", 3)
        monkeypatch.setattr(ranking, "_PRODUCTS", 37)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 10, COUNT, COUNT + 50])
def test_a_scan_is_the_plain_computation(tmp_path: Path, kind: str, metric: Metric, k: int) -> None:
    vectors = make_vectors(kind)
    view = make_view(tmp_path, vectors)
    outside = make_vectors(kind, COUNT + 1)[COUNT] * np.float32(1.01)
    for query in (vectors[17], vectors[60], outside):
        assert_same(scan(view, query, k=k, metric=metric), expected(vectors, query, metric, range(COUNT), k), metric)


@pytest.mark.parametrize("metric", METRICS)
def test_many_queries_at_once_find_what_each_does_alone(tmp_path: Path, metric: Metric) -> None:
    vectors = make_vectors("raw")
    vectors[120:150] = vectors[60]
    view = make_view(tmp_path, vectors, half=(1,))
    queries = np.concatenate([vectors[::9], -vectors[:3], np.zeros((1, DIM), np.float32)])
    everything = RowFilter(view, Filter()).rows()
    for some in (everything, everything[::7], everything[:0]):
        results = ranking.rank(view, queries, some, k=12, metric=metric)
        assert results == [ranking.rank(view, query[np.newaxis], some, k=12, metric=metric)[0] for query in queries]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_embeddings_of_half_precision_are_ranked_as_they_are_stored(tmp_path: Path, kind: str, metric: Metric) -> None:
    vectors = make_vectors(kind)
    view = make_view(tmp_path, vectors, half=(1, 3))
    for place in (1, 3):
        start = sum(SIZES[:place])
        vectors[start : start + SIZES[place]] = vectors[start : start + SIZES[place]].astype(np.float16)
    numbers = sorted(np.random.default_rng(2).choice(COUNT, 77, replace=False).tolist())
    for query in (vectors[20], vectors[150]):
        assert_same(scan(view, query, k=30, metric=metric), expected(vectors, query, metric, range(COUNT), 30), metric)
        found = rerank(view, query, rows.ids(numbers), k=30, metric=metric)
        assert_same(found, expected(vectors, query, metric, numbers, 30), metric)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_re_rank_is_the_plain_computation_on_the_candidates(tmp_path: Path, kind: str, metric: Metric) -> None:
    vectors = make_vectors(kind)
    view = make_view(tmp_path, vectors)
    numbers = sorted(np.random.default_rng(2).choice(COUNT, 77, replace=False).tolist())
    hits = rerank(view, vectors[60], [*rows.ids(numbers), 1, 2**53 - 1], k=12, metric=metric)  # and two nobody has
    assert_same(hits, expected(vectors, vectors[60], metric, numbers, 12), metric)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_queries_with_rows_of_their_own_are_ranked_as_each_alone(tmp_path: Path, kind: str, metric: Metric) -> None:
    vectors = make_vectors(kind)
    vectors[120:150] = vectors[60]
    view = make_view(tmp_path, vectors, half=(1,))
    rng = np.random.default_rng(9)
    queries = np.concatenate([vectors[55:65], vectors[118:122], -vectors[:2]])
    rows_of_each = [np.sort(rng.choice(COUNT, int(size), replace=False)) for size in rng.integers(0, COUNT, 16)]
    own_rows = [int(row) if place % 3 else None for place, row in enumerate(range(50, 66))]
    images = np.arange(COUNT) % 30 + 1
    for images_of_each in ([None] * 16, [images[some] for some in rows_of_each]):
        together = ranking.rank_each(
            view, queries, rows_of_each, k=12, metric=metric, own_rows=own_rows, images=images_of_each
        )
        for query, some, own_row, of_rows, found in zip(
            queries, rows_of_each, own_rows, images_of_each, together, strict=True
        ):
            (alone,) = ranking.rank(
                view, query[np.newaxis], some, k=12, metric=metric, own_rows=[own_row], images=of_rows
            )
            assert found == alone


@pytest.mark.parametrize("metric", METRICS)
def test_all_as_candidates_is_the_scan(tmp_path: Path, metric: Metric) -> None:
    vectors = make_vectors("raw")
    view = make_view(tmp_path, vectors)
    by_candidates = rerank(view, vectors[3], rows.ids(range(COUNT)), k=20, metric=metric)
    assert by_candidates == scan(view, vectors[3], k=20, metric=metric)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("near", [1, 64])
@pytest.mark.parametrize("k", [1, 5, 12, COUNT])
def test_of_the_rows_of_an_image_the_best_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, metric: Metric, near: int, k: int
) -> None:
    monkeypatch.setattr(best_rows, "_NEAR", near)
    vectors = make_vectors(kind)
    view = make_view(tmp_path, vectors, half=())
    images = np.random.default_rng(4).permutation(COUNT) % 30 + 1  # seven rows of each lie anywhere
    for query in (vectors[17], vectors[60], -vectors[3]):
        every = expected(vectors, query, metric, range(COUNT), COUNT)
        image_of = dict(zip(rows.ids(range(COUNT)), images.tolist(), strict=True))
        best: dict[int, float] = {}
        for row_id, distance in every:
            best.setdefault(image_of[row_id], distance * COUNTED[metric])
        found = ranking.rank(
            view, query[np.newaxis], RowFilter(view, Filter()).rows(), k=k, metric=metric, images=images
        )[0]
        assert_same(found, list(best.items())[:k], metric)
        assert all(image_of[int(hit.segment.ids[hit.row])] == hit.image_id for hit in found)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_do_not_count_are_not_found(tmp_path: Path, metric: Metric) -> None:
    vectors = make_vectors("raw")
    numbers = [*range(1, 6), *range(21, 41), *range(111, COUNT)]
    view = make_view(tmp_path, vectors, deleted=sorted(set(range(COUNT)) - set(numbers)))
    for hits in (
        scan(view, vectors[8], k=COUNT, metric=metric),
        rerank(view, vectors[8], rows.ids(range(COUNT)), k=COUNT, metric=metric),
    ):
        assert_same(hits, expected(vectors, vectors[8], metric, numbers, COUNT), metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("alike", [3, 30, 190])
def test_ties_are_broken_by_id_however_many_there_are(tmp_path: Path, metric: Metric, alike: int) -> None:
    vectors = make_vectors("raw")
    numbers = np.random.default_rng(1).choice(COUNT, alike, replace=False)
    vectors[numbers] = vectors[60]
    hits = scan(make_view(tmp_path, vectors), vectors[60], k=10, metric=metric)
    same = sorted(rows.ids(sorted({60, *numbers.tolist()})))[:10]
    assert [hit.image_id for hit in hits][: len(same)] == same
    assert [hit.distance for hit in hits][: len(same)] == pytest.approx([0.0] * len(same), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_what_has_no_direction_is_ranked_without_a_fault(tmp_path: Path, metric: Metric) -> None:
    vectors = make_vectors("raw")
    vectors[70] = 0
    view = make_view(tmp_path, vectors)
    for query, k in ((vectors[60], COUNT), (np.zeros(DIM, np.float32), 5)):
        hits = scan(view, query, k=k, metric=metric)
        assert len(hits) == k
        assert all(np.isfinite([hit.score, hit.distance]).all() for hit in hits)


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_to_rank_gives_no_hits(tmp_path: Path, metric: Metric) -> None:
    query = np.ones(DIM, np.float32)
    assert scan(RowTable().view, query, k=5, metric=metric) == []
    assert rerank(RowTable().view, query, [1], k=5, metric=metric) == []
    view = make_view(tmp_path, make_vectors("raw"), deleted=range(COUNT))
    assert rerank(view, query, rows.ids(range(COUNT)), k=5, metric=metric) == []
    assert scan(view, query, k=5, metric=metric) == []


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("metric", METRICS)
def test_what_overflows_single_precision_is_ranked_all_the_same(tmp_path: Path, metric: Metric) -> None:
    vectors = make_vectors("raw") * np.float32(1e18)
    query = vectors[60] * np.float32(1e17)
    hits = scan(make_view(tmp_path, vectors), query, k=10, metric=metric)
    assert_same(hits, expected(vectors, query, metric, range(COUNT), 10), metric)


def test_memory_does_not_grow_with_the_rows_and_the_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither all embeddings, converted, nor all products are held at a time."""
    for name in ("_EXACT", "_GATHERED", "_SCANNED", "_PRODUCTS"):
        monkeypatch.setattr(ranking, name, 2**14)
    count = 12_000
    vectors = np.random.default_rng(3).standard_normal((count, DIM)).astype(np.float32)
    view = make_view(tmp_path, vectors, sizes=(5000, 7000), half=(0, 1))
    everything = RowFilter(view, Filter()).rows()
    for some in (everything, everything[::5]):
        peaks = []
        for _ in range(3):  # what other threads of this process hold is counted too: the least is ours
            tracemalloc.start()
            try:
                ranking.rank(view, vectors[:50], some, k=10, metric="cosine")
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        assert min(peaks) < 700_000 < 4 * count * DIM < 4 * len(some) * 50 * 4
