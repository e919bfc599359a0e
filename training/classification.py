"""Classification reports: precision, recall and F1 of each class, and which class is taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Score:
    """Precision tp / (tp + fp), recall tp / (tp + fn), F1 their harmonic mean; 0 where nothing was counted.

    `support` is the number of images of the class.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, eq=False)
class ClassificationReport:
    """A classification report.

    Attributes:
        classes: Their names.
        confusion: Images of class i that were taken for class j, int64 [classes, classes].
    """

    classes: tuple[str, ...]
    confusion: npt.NDArray[np.int64]

    @classmethod
    def of(cls, classes: Sequence[str], truth: Labels, predicted: Labels) -> "ClassificationReport":
        """Return the report on predictions; both are places of classes, int [n]."""
        size = len(classes)
        confusion = np.bincount(np.asarray(truth) * size + np.asarray(predicted), minlength=size * size)
        return cls(tuple(classes), confusion.reshape(size, size).astype(np.int64))

    @property
    def accuracy(self) -> float:
        """The share of images whose class was predicted."""
        return float(np.trace(self.confusion) / max(1, self.confusion.sum()))

    @property
    def scores(self) -> list[Score]:
        """The scores of each class."""
        correct = np.diag(self.confusion)
        return [
            Score(precision, recall, _ratio(2 * precision * recall, precision + recall), support)
            for precision, recall, support in zip(
                map(_ratio, correct.tolist(), self.confusion.sum(axis=0).tolist()),
                map(_ratio, correct.tolist(), self.confusion.sum(axis=1).tolist()),
                self.confusion.sum(axis=1).tolist(),
                strict=True,
            )
        ]

    @property
    def macro(self) -> Score:
        """The mean over the classes, each counted alike."""
        return self._mean(np.ones(len(self.classes)))

    @property
    def weighted(self) -> Score:
        """The mean over the classes, each counted by its support."""
        return self._mean(self.confusion.sum(axis=1).astype(np.float64))

    def _mean(self, weights: npt.NDArray[np.float64]) -> Score:
        values = np.array([[score.precision, score.recall, score.f1] for score in self.scores])
        precision, recall, f1 = (weights @ values / max(1.0, weights.sum())).tolist()
        return Score(precision, recall, f1, int(self.confusion.sum()))

    def rows(self) -> list[tuple[str, Score]]:
        """Return the lines of the report: each class, then the means."""
        classes = list(zip(self.classes, self.scores, strict=True))
        return [*classes, ("macro avg", self.macro), ("weighted avg", self.weighted)]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "accuracy": self.accuracy,
            "classes": {name: vars(score) for name, score in zip(self.classes, self.scores, strict=True)},
            "macro": vars(self.macro),
            "weighted": vars(self.weighted),
            "confusion": self.confusion.tolist(),
        }

    def markdown(self) -> str:
        """Return the report as two Markdown tables: scores, and for each class (a row) what it was taken for."""
        lines = ["| class | precision | recall | F1 | support |", "|---|---|---|---|---|"]
        lines += [
            f"| {_cell(name)} | {score.precision:.2f} | {score.recall:.2f} | {score.f1:.2f} | {score.support} |"
            for name, score in self.rows()
        ]
        lines += [f"| accuracy | | | {self.accuracy:.3f} | {int(self.confusion.sum())} |", ""]
        lines += ["| | " + " | ".join(map(_cell, self.classes)) + " |", "|---" * (len(self.classes) + 1) + "|"]
        lines += [
            f"| {_cell(name)} | " + " | ".join(map(str, row)) + " |"
            for name, row in zip(self.classes, self.confusion.tolist(), strict=True)
        ]
        return "\n".join(lines) + "\n"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
