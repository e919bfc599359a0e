"""The classification report: its figures are those that counting one by one gives."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.classification import ClassificationReport

CLASSES = ("art", "birds", "cats")
pairs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


def of(some: Sequence[tuple[int, int]]) -> ClassificationReport:
    truth, predicted = np.array(some).T
    return ClassificationReport.of(CLASSES, truth, predicted)


@given(pairs)
def test_scores_are_what_counting_gives(some: list[tuple[int, int]]) -> None:
    report = of(some)
    for label, score in enumerate(report.scores):
        hits = sum(1 for truth, predicted in some if truth == predicted == label)
        taken = sum(1 for _, predicted in some if predicted == label)
        support = sum(1 for truth, _ in some if truth == label)
        precision, recall = hits / taken if taken else 0, hits / support if support else 0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
        assert (score.precision, score.recall, score.f1) == pytest.approx((precision, recall, f1))
        assert score.support == support
    assert report.accuracy == pytest.approx(sum(truth == predicted for truth, predicted in some) / len(some))
    assert report.macro.f1 == pytest.approx(sum(score.f1 for score in report.scores) / 3)
    assert report.weighted.recall == pytest.approx(report.accuracy)
    assert report.confusion.sum() == report.macro.support == len(some)


def test_the_report_is_written_as_tables() -> None:
    report = ClassificationReport.of(("a|b", "c"), np.array([0, 0, 1]), np.array([0, 1, 1]))
    text = report.markdown()
    assert "| a\\|b | 1.00 | 0.50 | 0.67 | 2 |" in text
    assert "| c | 0.50 | 1.00 | 0.67 | 1 |" in text
    assert "| a\\|b | 1 | 1 |" in text
    assert report.to_json()["confusion"] == [[1, 1], [0, 1]]
    assert report.to_json()["classes"]["c"]["support"] == 1
