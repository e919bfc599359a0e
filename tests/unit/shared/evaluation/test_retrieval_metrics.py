"""The metrics against their definitions written out, and against trec_eval where it means the same."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.dataset import Dataset
from shared.evaluation import retrieval_metrics

K = 5
RELEVANT = arrays.arrays(np.bool_, st.tuples(st.integers(1, 6), st.just(K)))


def written_out(relevant: list[bool], total: int) -> tuple[float, float]:
    """Return P@k and AP@k of one ranking as the definitions say."""
    found, precisions = 0, 0.0
    for place, good in enumerate(relevant, 1):
        if good:
            found += 1
            precisions += found / place
    return found / len(relevant), precisions / min(len(relevant), total) if total else 0.0


@given(RELEVANT, st.integers(0, 20))
def test_precision_and_average_precision_are_what_their_definitions_say(
    relevant: retrieval_metrics.Bools, more: int
) -> None:
    totals = relevant.sum(axis=1) + more
    precisions = retrieval_metrics.precision_at_k(relevant)
    averages = retrieval_metrics.average_precision_at_k(relevant, totals)
    for row, total, precision, average in zip(relevant.tolist(), totals, precisions, averages, strict=True):
        assert (precision, average) == pytest.approx(written_out(row, total), abs=1e-12)
    assert ((averages >= 0) & (averages <= 1 + 1e-12)).all()


@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_of_trec_eval_where_no_more_is_relevant_than_k(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, items = 40, 30
    truth, ranked = {}, {}
    relevant, totals = np.zeros((queries, K), dtype=np.bool_), np.zeros(queries, dtype=np.int64)
    for query in range(queries):
        good = rng.choice(items, rng.integers(1, K + 1), replace=False)
        found = rng.permutation(items)[: rng.integers(1, K + 1)]  # an index may find fewer than k
        truth[f"q{query}"] = {f"d{item}": int(item in good) for item in range(items)}
        ranked[f"q{query}"] = {f"d{item}": float(items - place) for place, item in enumerate(found)}
        relevant[query, : len(found)] = np.isin(found, good)
        totals[query] = len(good)
    evaluated = pytrec_eval.RelevanceEvaluator(truth, {f"map_cut.{K}", f"P.{K}"}).evaluate(ranked)
    names = [f"q{query}" for query in range(queries)]
    assert retrieval_metrics.precision_at_k(relevant) == pytest.approx([evaluated[name][f"P_{K}"] for name in names])
    averages = retrieval_metrics.average_precision_at_k(relevant, totals)
    assert averages == pytest.approx([evaluated[name][f"map_cut_{K}"] for name in names])


def test_average_precision_parts_from_trec_eval_where_more_is_relevant_than_k() -> None:
    relevant = np.ones((1, K), dtype=np.bool_)
    truth = {"q": {f"d{item}": 1 for item in range(2 * K)}}
    ranked = {"q": {f"d{item}": float(-item) for item in range(K)}}
    evaluated = pytrec_eval.RelevanceEvaluator(truth, {f"map_cut.{K}"}).evaluate(ranked)
    assert evaluated["q"][f"map_cut_{K}"] == pytest.approx(0.5)  # which divides by all that is relevant
    assert retrieval_metrics.average_precision_at_k(relevant, np.array([2 * K])) == pytest.approx([1.0])


def test_recall_counts_by_distance_so_that_any_of_equally_near_items_will_do() -> None:
    exact = np.array([[1.0, 2.0, 2.0], [1.0, 2.0, np.inf], [np.inf] * 3, [0.5, 0.5, 0.5]])
    farthest, count = retrieval_metrics.kth_nearest(exact)
    assert count.tolist() == [3, 2, 0, 3]
    found = np.array(
        [
            [2.0, 2.0 + 1e-12, 2.0, 3.0],  # three of those at the distance of the last, none nearer: all count
            [1.0, 2.5, np.inf, np.inf],
            [np.inf] * 4,
            [0.5, 0.6, np.inf, np.inf],
        ]
    )
    assert retrieval_metrics.recall_at_k(found, farthest, count) == pytest.approx([1, 1 / 2, 1, 1 / 3])


@given(arrays.arrays(np.float64, (4, 12), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])), st.data())
def test_recall_of_a_part_of_the_items_is_what_a_count_of_ids_gives_but_for_ties(
    distances: retrieval_metrics.Floats, data: st.DataObject
) -> None:
    farthest, count = retrieval_metrics.kth_nearest(np.sort(distances, axis=1)[:, :K])
    kept = data.draw(arrays.arrays(np.bool_, distances.shape))
    recalls = retrieval_metrics.recall_at_k(np.where(kept, distances, np.inf), farthest, count)
    for row, kept_places, recall in zip(distances, kept, recalls, strict=True):
        order = np.argsort(row, kind="stable")
        by_id = len(set(order[:K].tolist()) & set(np.flatnonzero(kept_places).tolist())) / K
        nearer = kept_places & (row < np.sort(row)[K - 1])
        assert recall >= by_id
        assert recall >= nearer.sum() / K
        assert recall == min(K, (row[kept_places] <= np.sort(row)[K - 1]).sum()) / K


def test_the_benchmarks_count_recall_in_the_same_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 4)).astype(np.float32)
    vectors[30:] = vectors[:30]  # each is there twice
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    data = Dataset.write("twice", tmp_path / "data", vectors, vectors[:3])
    rows = np.argsort(-(vectors[:3] @ vectors.T), axis=1, kind="stable")[:, :10]
    assert data.recall(rows) == 1.0
    assert data.recall((rows + 30) % 60) == 1.0  # the copies are as near
    missed = rows.copy()
    missed[:, 5:] = -1
    assert data.recall(missed) == pytest.approx(0.5)


def test_a_query_that_is_in_the_collection_does_not_count_itself() -> None:
    ids = np.array([[7, 1, 2, 3], [1, 7, 2, -1], [4, 5, 6, 8], [1, 2, 3, 9]])
    own = np.array([7, 7, 7, 9])
    places, is_query = retrieval_metrics.others_first(ids, own, 3)
    assert np.take_along_axis(ids, places, axis=1).tolist() == [[1, 2, 3], [1, 2, -1], [4, 5, 6], [1, 2, 3]]
    assert is_query.tolist() == [True, True, False, True]


def test_what_was_not_found_has_no_distance() -> None:
    means = retrieval_metrics.mean_of_found(np.array([[1.0, 3.0, np.inf], [np.inf] * 3]))
    assert means[0] == 2.0
    assert np.isnan(means[1])


def test_the_confusion_counts_every_hit_once() -> None:
    queries = np.array([0, 1, 1])
    hits = np.array([[0, 0, 2], [1, -1, -1], [0, 2, 2]])
    counts = retrieval_metrics.confusion(queries, hits, classes=2, hit_classes=3)
    assert counts.tolist() == [[2, 0, 1], [1, 1, 2]]


def test_the_macro_mean_counts_each_class_alike() -> None:
    values, classes = np.array([1.0, 1.0, 1.0, 0.0]), np.array([3, 3, 3, 0])
    assert retrieval_metrics.macro_mean(values, classes) == 0.5
    assert [part.tolist() for part in retrieval_metrics.by_class(values, classes)] == [[0.0], [1.0, 1.0, 1.0]]


def test_intervals_hold_the_mean_and_narrow_with_the_number_of_queries() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for size in (30, 300, 3000):
        values = rng.random((size, 1))
        means = retrieval_metrics.bootstrap_means(values, seed=[1])
        assert np.array_equal(means, retrieval_metrics.bootstrap_means(values, seed=[1]))  # the same for the same seed
        low, high = retrieval_metrics.interval(means[:, 0])
        assert low < values.mean() < high
        # The mean of n uniform numbers is off by 0.2887 / sqrt(n).
        assert high - low == pytest.approx(2 * 1.96 * 0.2887 / size**0.5, rel=0.15)
        widths.append(high - low)
    assert all(wide > narrow for wide, narrow in pairwise(widths))


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(300):
        low, high = retrieval_metrics.interval(
            retrieval_metrics.bootstrap_means(rng.random((60, 1)), seed=[trial], resamples=400)[:, 0], confidence=0.9
        )
        held += low <= 0.5 <= high
    assert held / 300 == pytest.approx(0.9, abs=0.05)


def test_figures_that_are_all_alike_have_no_width() -> None:
    means = retrieval_metrics.bootstrap_means(np.ones((7, 2)), seed=[0], resamples=50)
    assert retrieval_metrics.interval(means[:, 1]) == (1.0, 1.0)
