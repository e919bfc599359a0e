"""Searches among embeddings, scored as the report scored them: an exact scan, and the p-stable index over its vectors.

All distances are computed once. What an index finds is the nearest of the images that its buckets hold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reproduction.theory import meeting
from shared.evaluation import retrieval_metrics
from shared.hashing.families.p_stable import PStableFamily
from shared.hashing.space import AXIS_BITS, Space, WholeNumbers, fit_space
from shared.search_limits import Metric
from shared.tuning import fit

K = 10
"""Hits of a query, as in the report."""

Directions = Literal["normal", "uniform"]
"""What the directions of a hash are drawn from: the normal distribution, as theory asks, or evenly from 0 to 1."""

_BINS = 4096  # of a histogram of all distances, from which the share is predicted
_BLOCK = 4096  # images

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """Means over the queries of a search.

    Attributes:
        p_at_k: The share of relevant hits among K places.
        ap_at_k: The same by rank.
        recall: The share of the K nearest images that was found.
        mean: The mean of the hits' Euclidean distances, or of their cosines.
        items: How many images were compared with the query.
        share: Their share of all images.
        per_class: P@k of the queries of each class.
    """

    p_at_k: float
    ap_at_k: float
    recall: float
    mean: float
    items: float
    share: float
    per_class: dict[str, float]


@dataclass(frozen=True)
class Setting:
    """An index: L tables (the report's g) of k hash functions (its h) with slots of width w."""

    tables: int
    hashes: int
    width: float


@dataclass(frozen=True)
class IndexScores:
    """The scores of an index by either metric, and what theory predicts of it.

    Attributes:
        recalls: By Euclidean distance, of every draw of the directions; `euclidean` has their mean.
    """

    setting: Setting
    euclidean: Scores
    cosine: Scores
    recalls: tuple[float, ...]
    predicted_recall: float
    predicted_share: float


class Searches:
    """Queries among images: embeddings of both, of any length.

    Args:
        images: float32 [n, dim].
        labels: The classes of the images, int [n]; -1 for distractors.
        queries: float32 [q, dim].
        query_labels: The classes of the queries, int [q].
        classes: Names of the classes.
    """

    def __init__(
        self, images: Vectors, labels: Labels, queries: Vectors, query_labels: Labels, classes: Sequence[str]
    ) -> None:
        self._images, self._labels, self._queries, self._query_labels = images, labels, queries, query_labels
        self._classes = tuple(classes)
        self._relevant = np.array([int((labels == label).sum()) for label in query_labels.tolist()], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._images)

    def without_distractors(self) -> "Searches":
        """Return the same queries among the labelled images alone."""
        labelled = self._labels >= 0
        return Searches(
            self._images[labelled], self._labels[labelled], self._queries, self._query_labels, self._classes
        )

    def with_leaked(self, places: Labels) -> "Searches":
        """Return the same queries, copies of some of which are among the images."""
        return Searches(
            np.concatenate([self._images, self._queries[places]]),
            np.concatenate([self._labels, self._query_labels[places]]),
            self._queries,
            self._query_labels,
            self._classes,
        )

    # Distances

    @cached_property
    def _distances(self) -> dict[Metric, Floats]:
        """The distance of each query to each image, [q, n], by either metric."""
        products = np.empty((len(self._queries), len(self._images)))
        squares = np.empty(len(self._images))
        queries = self._queries.astype(np.float64)
        for start in range(0, len(self._images), _BLOCK):
            block = self._images[start : start + _BLOCK].astype(np.float64)
            products[:, start : start + _BLOCK] = queries @ block.T
            squares[start : start + _BLOCK] = np.einsum("ij,ij->i", block, block)
        query_squares = np.einsum("ij,ij->i", queries, queries)
        lengths = np.sqrt(query_squares)[:, None] * np.sqrt(squares)
        cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        euclidean = np.sqrt(np.maximum(query_squares[:, None] + squares - 2 * products, 0))
        return {"euclidean": euclidean, "cosine": 1 - cosines}

    @cached_property
    def _nearest(self) -> dict[Metric, Floats]:
        """The distances of the queries to their K nearest images, [q, K], by either metric."""
        return {metric: _k_nearest(distances)[1] for metric, distances in self._distances.items()}

    @property
    def neighbours(self) -> Floats:
        """The Euclidean distances of the queries to their K nearest images, [q, K]."""
        return self._nearest["euclidean"]

    # Searches

    def scan(self, metric: Metric) -> Scores:
        """Return the scores of the exact scan."""
        return self._scores(metric, None)

    def index(self, setting: Setting, *, seeds: Sequence[int], directions: Directions = "normal") -> IndexScores:
        """Return the scores of a p-stable index, in the mean over the seeds of its directions."""
        drawn: dict[Metric, list[Scores]] = {"euclidean": [], "cosine": []}
        for seed in seeds:
            family = self._family(setting, seed, directions)
            candidates = _candidates(family.keys_at(self._coordinates), family.keys_at(self._query_coordinates))
            for metric, scores in drawn.items():
                scores.append(self._scores(metric, candidates))
        distances, counts = self._histogram
        probabilities = partial(meeting, width=setting.width, hashes=setting.hashes, tables=setting.tables)
        return IndexScores(
            setting,
            _mean(drawn["euclidean"]),
            _mean(drawn["cosine"]),
            tuple(scores.recall for scores in drawn["euclidean"]),
            float(probabilities(self.neighbours).mean()),
            float(np.average(probabilities(distances), weights=counts)),
        )

    def tuned(self, *, seed: int, recall: float) -> tuple[dict[str, Any], Scores]:
        """Return the parameters of the index that our tuner chooses for the cosine, and the scores of that index."""
        family = fit(self._images, seed=seed, recall_target=recall)
        keys = family.keys(self._images)
        candidates = np.zeros((len(self._queries), len(self._images)), dtype=np.bool_)
        for place, query in enumerate(self._queries):
            for table, buckets in enumerate(family.probes(query)):
                candidates[place] |= np.isin(keys[:, table], buckets)
        return family.parameters(), self._scores("cosine", candidates)

    def _scores(self, metric: Metric, candidates: Bools | None) -> Scores:
        """Return the scores of searches that see these candidates, bool [q, n], or all images."""
        distances = self._distances[metric]
        seen = distances if candidates is None else np.where(candidates, distances, np.inf)
        places, nearest = _k_nearest(seen)
        hits = np.where(np.isfinite(nearest), self._labels[places], -1)
        relevant = hits == self._query_labels[:, None]
        precisions = retrieval_metrics.precision_at_k(relevant)
        means = retrieval_metrics.mean_of_found(nearest if metric == "euclidean" else 1 - nearest)
        counts = np.full(len(places), len(self._images)) if candidates is None else candidates.sum(axis=1)
        exact = retrieval_metrics.kth_nearest(self._nearest[metric])
        return Scores(
            p_at_k=float(precisions.mean()),
            ap_at_k=float(retrieval_metrics.average_precision_at_k(relevant, self._relevant).mean()),
            recall=float(retrieval_metrics.recall_at_k(nearest, *exact).mean()),
            mean=float(np.nanmean(means)) if np.isfinite(means).any() else math.nan,
            items=float(counts.mean()),
            share=float(counts.mean() / len(self._images)),
            per_class={
                name: float(precisions[self._query_labels == label].mean())
                for label, name in enumerate(self._classes)
                if (self._query_labels == label).any()
            },
        )

    # The index, over the vectors themselves

    @cached_property
    def _space(self) -> Space:
        return fit_space(self._images, None, scaling="none")

    @cached_property
    def _coordinates(self) -> WholeNumbers:
        return self._space.coordinates(self._images)

    @cached_property
    def _query_coordinates(self) -> WholeNumbers:
        return self._space.coordinates(self._queries)

    @cached_property
    def _histogram(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Distances, and how many pairs of a query and an image lie at about each."""
        counts, edges = np.histogram(self._distances["euclidean"], _BINS)
        return (edges[1:] + edges[:-1]) / 2, counts

    def _family(self, setting: Setting, seed: int, directions: Directions) -> PStableFamily:
        space = self._space
        family = PStableFamily.draw(
            space,
            tables=setting.tables,
            hashes=setting.hashes,
            width=setting.width / (2.0**space.exponent * space.unit),
            probes=1,
            seed=seed,
        )
        if directions == "normal":
            return family
        arrays = family.arrays()
        components = np.random.default_rng([seed, 2]).random(arrays["directions"].shape)
        # The family stores a component of 1 as 2**26 / √d.
        uniform = np.rint(components * 2.0**AXIS_BITS / space.size**0.5).astype(np.int32)
        return PStableFamily.from_parts(family.parameters(), arrays | {"directions": uniform})


def _k_nearest(distances: Floats) -> tuple[Labels, Floats]:
    """Return the places and distances of the K nearest, nearest first, [q, K]; infinitely far where there are fewer."""
    missing = K - distances.shape[1]
    if missing > 0:
        distances = np.pad(distances, ((0, 0), (0, missing)), constant_values=np.inf)
    places = np.argpartition(distances, K - 1, axis=1)[:, :K]
    order = np.argsort(np.take_along_axis(distances, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    nearest = np.take_along_axis(distances, places, axis=1)
    # A place beyond the images stands for none: its distance is infinite.
    return np.where(places < distances.shape[1] - max(0, missing), places, 0), nearest


def _candidates(keys: npt.NDArray[np.uint64], query_keys: npt.NDArray[np.uint64]) -> Bools:
    """Return which images, keys [n, tables], share a bucket with which queries, keys [q, tables]: bool [q, n]."""
    candidates = np.zeros((len(query_keys), len(keys)), dtype=np.bool_)
    for table in range(keys.shape[1]):
        candidates |= query_keys[:, table, None] == keys[None, :, table]
    return candidates


def _mean(drawn: Sequence[Scores]) -> Scores:
    values = {
        name: float(np.mean([getattr(scores, name) for scores in drawn]))
        for name in ("p_at_k", "ap_at_k", "recall", "items", "share")
    }
    means = [scores.mean for scores in drawn if not math.isnan(scores.mean)]  # a draw may find nothing at all
    values["mean"] = float(np.mean(means)) if means else math.nan
    classes = {name: float(np.mean([scores.per_class[name] for scores in drawn])) for name in drawn[0].per_class}
    return Scores(**values, per_class=classes)
