"""Distances of rows to a query each are those to that query alone, to the last bit."""

import numpy as np
import pytest

from shared.rpc.query import Metric
from shared.similarity import distances_and_scores


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dim", [1, 7, 128, 1280])
def test_many_queries_at_once_change_no_bit(metric: Metric, dim: int) -> None:
    rng = np.random.default_rng(dim)
    points = rng.standard_normal((60, dim)) * rng.lognormal(0, 3, (60, 1))
    queries = rng.standard_normal((5, dim)).astype(np.float32)
    query_of = rng.integers(0, 5, 60)
    together = distances_and_scores(points.copy(), queries[query_of], metric)
    for number, query in enumerate(queries):
        alone = distances_and_scores(points[query_of == number], query, metric)
        for some, found in zip(together, alone, strict=True):
            assert np.array_equal(some[query_of == number], found)


def test_a_row_or_a_query_of_zeros_has_no_likeness() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0]])
    distances, scores = distances_and_scores(points, np.zeros(2, dtype=np.float32), "cosine")
    assert (distances.tolist(), scores.tolist()) == ([1, 1], [0, 0])
