"""The survey of a collection against brute force, and collections that change while they are surveyed."""

from collections.abc import Iterator

import numpy as np
import pytest

from shared.hashing import FloatArray, HashingError
from shared.search_limits import Metric
from shared.tuning import Goal, sampling, survey, tune
from shared.tuning.sampling import Rows, Sample, survey_vectors
from tests.support.clusters import clustered, distances

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")


def unlike_lengths(seed: int, n: int, dim: int) -> FloatArray:
    lengths = np.random.default_rng(seed).uniform(0.5, 2, (n, 1))
    return np.asarray(clustered(seed, n, dim) * lengths, dtype=np.float32)


def batches(vectors: FloatArray, seed: int = 0) -> Iterator[Rows]:
    """The vectors in small uneven batches, some of them empty, with ids that are no row numbers."""
    sizes = np.random.default_rng(seed).integers(0, 90, len(vectors))
    start = 0
    for size in sizes:
        part = vectors[start : start + size]
        yield np.arange(start, start + len(part)) * 3 + 7, part
        start += size


def rows_of(sample: Sample) -> list[list[int]]:
    """The rows of `batches` that are each query's neighbours."""
    return ((sample.neighbour_ids - 7) // 3).tolist()  # type: ignore[no-any-return]


def test_bits_of_the_collection_come_to_the_same_as_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unlike_lengths(1, 5000, 60)
    monkeypatch.setattr(sampling, "_ROWS_BYTES", 4 * 60 * 3000)
    monkeypatch.setattr(sampling, "_AXES_BYTES", 4 * 60 * 2000)
    for metric in METRICS:
        whole = survey_vectors(vectors, seed=3, metric=metric)
        pieces = survey(lambda: batches(vectors), 5000, seed=3, metric=metric)
        assert pieces.space.parameters() == whole.space.parameters()
        for name, array in whole.space.arrays().items():
            assert (pieces.space.arrays()[name] == array).all()
        assert whole.rows.shape == (3000, 60)
        assert (pieces.rows == whole.rows).all()
        assert (pieces.queries == whole.queries).all()
        assert (pieces.query_vectors == whole.query_vectors).all()
        assert (pieces.query_rows == whole.query_rows).all()
        assert pieces.size == whole.size == 5000
        # Scores of single precision may exchange two that are as near.
        same = [
            set(first) == set(second)
            for first, second in zip(rows_of(pieces), whole.neighbour_ids.tolist(), strict=True)
        ]
        assert np.mean(same) > 0.99


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("origin", [0.0, 1000.0])
def test_neighbours_are_those_of_brute_force(metric: Metric, origin: float) -> None:
    vectors = np.asarray(unlike_lengths(1, 2000, 40) * (300 if origin else 1) + origin, dtype=np.float32)
    vectors[1000:1040] = vectors[:40]  # copies, which count as neighbours
    vectors[500:503] = vectors[3]
    sample = survey(lambda: batches(vectors), 2000, seed=0, metric=metric)
    assert sample.neighbour_ids.shape == (sampling.QUERIES, 10)
    assert (sample.space.coordinates(vectors)[rows_of(sample)] == sample.neighbours).all()
    copies = 0
    for vector, rows in zip(sample.query_vectors, rows_of(sample), strict=True):
        assert len(set(rows)) == 10
        away = distances(vectors, vector, metric)
        own = np.flatnonzero((vectors == vector).all(axis=1))
        copies += len(own) > 1
        assert len(own) - 1 == sum(row in own for row in rows)  # itself left out once, and no copy of it
        expected = np.delete(np.sort(away), 0)[:10]
        assert away[rows] == pytest.approx(expected, abs=1e-6 if metric == "cosine" else 2e-3 * (1 + origin / 10))
    assert copies > 5


def test_queries_and_rows_are_the_collections_own(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unlike_lengths(1, 4000, 32)
    monkeypatch.setattr(sampling, "_ROWS_BYTES", 4 * 32 * 1000)
    sample = survey(lambda: batches(vectors), 4000, seed=0)
    assert (sample.rows.shape, sample.queries.shape, sample.size) == ((1000, 32), (sampling.QUERIES, 32), 4000)
    coordinates = sample.space.coordinates(vectors).astype(np.float32)
    places = {row.tobytes(): number for number, row in enumerate(coordinates)}
    numbers = [places[row.tobytes()] for row in sample.rows]
    assert numbers == sorted(set(numbers))  # in their order, none twice
    assert np.histogram(numbers, 4, (0, 4000))[0] == pytest.approx(250, rel=0.25)
    query_places = [places[query.tobytes()] for query in sample.queries.astype(np.float32)]
    assert len(set(query_places)) == sampling.QUERIES
    drawn = [place for place, row in zip(query_places, sample.query_rows, strict=True) if row >= 0]
    assert [numbers[row] for row in sample.query_rows if row >= 0] == drawn
    assert set(query_places) & set(numbers) == set(drawn)
    assert 0.15 < (sample.query_rows >= 0).mean() < 0.35


@pytest.mark.parametrize(
    ("n", "dim", "axes"), [(63, 200, 200), (64, 200, 8), (400, 200, 50), (1040, 132, 128), (2000, 30, 30)]
)
def test_there_are_axes_as_soon_as_there_are_vectors_to_tell_them(n: int, dim: int, axes: int) -> None:
    sample = survey_vectors(unlike_lengths(0, n, dim), seed=0)
    assert sample.space.size == axes
    assert (sample.space.axes is None) == (n < 64)


def test_the_first_axes_are_those_of_the_sample() -> None:
    sample = survey_vectors(unlike_lengths(0, 500, 100), seed=0)
    few = sample.on_axes(12)
    assert few.space.size == few.rows.shape[1] == few.queries.shape[1] == few.neighbours.shape[2] == 12
    assert (few.space.coordinates(few.query_vectors) == few.queries).all()
    assert sample.on_axes(62) is sample
    assert sample.on_axes(500) is sample
    spread = sample.rows.astype(np.float64).var(axis=0)
    assert (spread[:11] > 0.9 * spread[1:12]).all()


@pytest.mark.parametrize("n", [1, 2, 5, 11, 12])
def test_small_collections_have_as_many_neighbours_as_there_are(n: int) -> None:
    sample = survey_vectors(unlike_lengths(0, n, 24), seed=0)
    assert sample.neighbour_ids.shape == (n, min(10, n - 1))
    for query, ids in enumerate(sample.neighbour_ids.tolist()):
        assert query not in ids
        assert len(set(ids)) == len(ids)
    assert sample.query_rows.tolist() == list(range(n))


def test_a_size_to_come_is_kept() -> None:
    assert survey_vectors(unlike_lengths(0, 50, 24), seed=0, size=9000).size == 9000
    assert survey_vectors(unlike_lengths(0, 50, 24), seed=0, size=20).size == 50


def test_half_precision_is_surveyed_as_what_it_stands_for() -> None:
    halves = unlike_lengths(0, 300, 16).astype(np.float16)
    first, second = survey_vectors(halves, seed=0), survey_vectors(halves.astype(np.float32), seed=0)  # type: ignore[arg-type]
    assert (first.rows == second.rows).all()
    assert (first.neighbour_ids == second.neighbour_ids).all()


# Collections that change meanwhile


@pytest.mark.parametrize(
    ("announced", "first", "second"),
    [(1000, 1000, 700), (1000, 1000, 1400), (1000, 800, 30), (500, 1400, 1400), (1, 9, 9)],
)
@pytest.mark.parametrize("family", ["voronoi", "p-stable"])
def test_images_that_come_and_go_between_the_passes_do_no_harm(
    announced: int, first: int, second: int, family: str
) -> None:
    vectors = unlike_lengths(1, 1400, 24)
    passes = iter((first, second))
    sample = survey(lambda: batches(vectors[: next(passes)]), announced, seed=0)
    assert sample.size == announced
    assert 1 <= len(sample.rows) <= min(announced, second)
    assert (np.array(rows_of(sample)) < second).all()
    assert (sample.query_rows < len(sample.rows)).all()
    tuning = tune(sample, Goal(seed=0, families=(family,), tables=2, cells=20, hashes=8))
    assert 0 < tuning.chosen.recall <= 1
    tuning.family.keys(vectors)


def test_other_vectors_under_the_same_number_do_no_harm() -> None:
    vectors = iter((unlike_lengths(1, 600, 24), unlike_lengths(2, 600, 24)))
    sample = survey(lambda: batches(next(vectors)), 600, seed=0)
    assert (sample.query_rows == -1).all()
    assert sample.neighbour_ids.shape == (sampling.QUERIES, 10)
    assert 0 < tune(sample, Goal(seed=0, tables=1, cells=20, hashes=8)).chosen.recall <= 1


def test_a_collection_without_vectors_is_refused() -> None:
    with pytest.raises(HashingError, match="expected \\[n, dim\\], n ≥ 1"):
        survey(lambda: iter(()), 0, seed=0)
    passes = iter((unlike_lengths(1, 50, 24), unlike_lengths(1, 0, 24)))
    with pytest.raises(HashingError, match="none of the 50 vectors that were to be surveyed is left"):
        survey(lambda: batches(next(passes)), 50, seed=0)


def test_a_number_that_is_not_finite_is_refused_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_MAX_VECTORS_FOR_AXES", 400)
    monkeypatch.setattr(sampling, "_ROWS_BYTES", 4 * 24 * 10)
    vectors = unlike_lengths(1, 3000, 24)
    for row in (0, 1234, 2999):
        broken = vectors.copy()
        broken[row, 5] = np.inf
        with pytest.raises(HashingError, match="inf at component 5"):
            survey(lambda: batches(broken), 3000, seed=0)  # noqa: B023 -- called at once
