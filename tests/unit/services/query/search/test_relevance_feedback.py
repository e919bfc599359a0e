"""Relevance feedback: how much the query and the examples count."""

import numpy as np
import pytest

from services.query.search.relevance_feedback import moved

QUERY = np.array([3, 0, 0], np.float32)
LIKE = np.array([[0, 2, 0]], np.float32)
NONE = np.empty((0, 3), np.float32)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 3.0])
def test_the_query_counts_by_its_weight_and_keeps_its_length(weight: float) -> None:
    found = moved(QUERY, LIKE, NONE, weight=weight)
    direction = np.array([weight, 2, 0]) / np.hypot(weight, 2)
    assert found == pytest.approx(3 * direction, abs=1e-6)


def test_without_examples_the_weight_changes_nothing() -> None:
    assert moved(QUERY, NONE, NONE, weight=0.5) == pytest.approx(QUERY)
