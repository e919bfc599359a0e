"""How well embeddings search: the validation images are looked for among the training images, by an exact scan."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.evaluation.retrieval_metrics import average_precision_at_k, precision_at_k
from training.classification import ClassificationReport
from training.labelled_images import LabelledImages, TrainingData

K: Final = 10
"""Hits of a search, and the nearest images that tell a class."""

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SearchScores:
    """How well the validation images find the training images of their classes.

    Attributes:
        p_at_k, ap_at_k: Means over all queries.
        per_class: Both, of the queries of each class.
    """

    p_at_k: float
    ap_at_k: float
    per_class: dict[str, dict[str, float]]


def nearest_neighbour_scores(
    data: TrainingData, *, training: Floats, validation: Floats, held_back: Floats | None
) -> tuple[ClassificationReport, SearchScores, SearchScores | None]:
    """Return what the nearest neighbours of the validation images are worth.

    Args:
        data: The images.
        training: Embeddings of the training images, [n, dim], each of length 1.
        validation: Those of the validation images.
        held_back: Those of the background images that were held back; None without any.

    Returns:
        The classes told by the `K` nearest training images, each voting by its similarity; scores of the searches among
        the training images, and of those among the training images and the background that was held back.
    """
    similarity, labels = validation @ training.T, data.training.labels
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :K]
    votes = np.zeros((len(validation), len(data.training.classes)))
    voters = np.arange(len(validation))[:, None]
    np.add.at(votes, (voters, labels[nearest]), np.take_along_axis(similarity, nearest, axis=1))
    report = ClassificationReport.of(data.training.classes, data.validation.labels, votes.argmax(axis=1))
    scores = _search_scores(similarity, labels, data.validation)
    if held_back is None:
        return report, scores, None
    among_both = np.concatenate([similarity, validation @ held_back.T], axis=1)
    labels_of_both = np.concatenate([labels, np.full(len(held_back), -1)])
    return report, scores, _search_scores(among_both, labels_of_both, data.validation)


def _search_scores(similarity: Floats, labels: Labels, queries: LabelledImages) -> SearchScores:
    """Return the scores of a search: similarities [queries, images], the class of each image, -1 for none."""
    expected = queries.labels
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :K]
    relevant = labels[nearest] == expected[:, None]
    relevant = np.pad(relevant, ((0, 0), (0, K - nearest.shape[1])))
    precision = precision_at_k(relevant)
    class_sizes = np.bincount(labels[labels >= 0], minlength=expected.max() + 1)
    average = average_precision_at_k(relevant, class_sizes[expected])
    per_class = {
        name: {
            "p_at_k": float(precision[expected == place].mean()),
            "ap_at_k": float(average[expected == place].mean()),
        }
        for place, name in enumerate(queries.classes)
    }
    return SearchScores(float(precision.mean()), float(average.mean()), per_class)
