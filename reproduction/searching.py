"""Searches among embeddings, judged as the report judged them: an exact scan, and the p-stable index over its vectors.

Distances are computed once; what an index finds is what of them its buckets leave.
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
from shared.similarity import Metric
from shared.tuning import fit

K = 10
"""Hits of a query, as in the report."""

Directions = Literal["normal", "uniform"]
"""What the directions of a hash are drawn from: the normal distribution, as theory asks, or evenly from 0 to 1."""

_BINS = 4096  # of all distances, by which the share that theory predicts is found
_BLOCK = 4096

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Figures:
    """What a search came to, as means over the queries.

    Attributes:
        p_at_k: The share of relevant hits among K places.
        ap_at_k: The same by rank.
        recall: The share of the K nearest that was found.
        mean: Of the hits' Euclidean distances, or of their cosines.
        items: Images that were compared with the query.
        share: Of all images.
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
class Indexed:
    """What an index came to, by either metric, and what theory predicts of it.

    Attributes:
        recalls: By Euclidean distance, of every draw of the directions; `euclidean` has their mean.
    """

    setting: Setting
    euclidean: Figures
    cosine: Figures
    recalls: tuple[float, ...]
    predicted_recall: float
    predicted_share: float


class Searches:
    """Queries among images: embeddings of both, of any length.

    Args:
        images: float32 [n, dim].
        labels: The class of each, int [n]; -1 for distractors.
        queries: float32 [q, dim].
        wanted: The class of each, int [q].
        classes: Names of the classes.
    """

    def __init__(
        self,
        images: Vectors,
        labels: npt.NDArray[np.int64],
        queries: Vectors,
        wanted: npt.NDArray[np.int64],
        classes: Sequence[str],
    ) -> None:
        self._images, self._labels, self._queries, self._wanted = images, labels, queries, wanted
        self._classes = tuple(classes)
        self._relevant = np.array([int((labels == one).sum()) for one in wanted.tolist()], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._images)

    def without_distractors(self) -> "Searches":
        """Return the same queries among the labelled images alone."""
        kept = self._labels >= 0
        return Searches(self._images[kept], self._labels[kept], self._queries, self._wanted, self._classes)

    def leaking(self, places: npt.NDArray[np.int64]) -> "Searches":
        """Return the same queries, copies of some of which are among the images."""
        return Searches(
            np.concatenate([self._images, self._queries[places]]),
            np.concatenate([self._labels, self._wanted[places]]),
            self._queries,
            self._wanted,
            self._classes,
        )

    # Distances

    @cached_property
    def _distances(self) -> dict[Metric, Floats]:
        """Of each query to each image, [q, n], by either metric."""
        products = np.empty((len(self._queries), len(self._images)))
        squares = np.empty(len(self._images))
        queries = self._queries.astype(np.float64)
        for start in range(0, len(self._images), _BLOCK):
            some = self._images[start : start + _BLOCK].astype(np.float64)
            products[:, start : start + _BLOCK] = queries @ some.T
            squares[start : start + _BLOCK] = np.einsum("ij,ij->i", some, some)
        own = np.einsum("ij,ij->i", queries, queries)
        lengths = np.sqrt(own)[:, None] * np.sqrt(squares)
        cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        euclidean = np.sqrt(np.maximum(own[:, None] + squares - 2 * products, 0))
        return {"euclidean": euclidean, "cosine": 1 - cosines}

    @cached_property
    def _nearest(self) -> dict[Metric, Floats]:
        """Distances of the K nearest images, [q, K]."""
        return {metric: _best(distances)[1] for metric, distances in self._distances.items()}

    @property
    def neighbours(self) -> Floats:
        """The Euclidean distances of the queries to their K nearest images, [q, K]."""
        return self._nearest["euclidean"]

    # Searches

    def scan(self, metric: Metric) -> Figures:
        """Return what the exact scan comes to."""
        return self._judged(metric, None)

    def index(self, setting: Setting, *, seeds: Sequence[int], directions: Directions = "normal") -> Indexed:
        """Return what a p-stable index comes to, in the mean over the seeds of its directions."""
        drawn: dict[Metric, list[Figures]] = {"euclidean": [], "cosine": []}
        for seed in seeds:
            family = self._family(setting, seed, directions)
            met = _met(family.keys_at(self._coordinates), family.keys_at(self._query_coordinates))
            for metric, found in drawn.items():
                found.append(self._judged(metric, met))
        distances, counts = self._histogram
        chances = partial(meeting, width=setting.width, hashes=setting.hashes, tables=setting.tables)
        return Indexed(
            setting,
            _mean(drawn["euclidean"]),
            _mean(drawn["cosine"]),
            tuple(one.recall for one in drawn["euclidean"]),
            float(chances(self.neighbours).mean()),
            float(np.average(chances(distances), weights=counts)),
        )

    def tuned(self, *, seed: int, recall: float) -> tuple[dict[str, Any], Figures]:
        """Return the parameters of the index that our tuner chooses for the cosine, and what it comes to."""
        family = fit(self._images, seed=seed, recall_target=recall)
        keys = family.keys(self._images)
        met = np.zeros((len(self._queries), len(self._images)), dtype=np.bool_)
        for place, query in enumerate(self._queries):
            for table, buckets in enumerate(family.probes(query)):
                met[place] |= np.isin(keys[:, table], buckets)
        return family.parameters(), self._judged("cosine", met)

    def _judged(self, metric: Metric, met: Bools | None) -> Figures:
        distances = self._distances[metric]
        masked = distances if met is None else np.where(met, distances, np.inf)
        places, best = _best(masked)
        hits = np.where(np.isfinite(best), self._labels[places], -1)
        relevant = hits == self._wanted[:, None]
        precisions = retrieval_metrics.precision_at_k(relevant)
        found = retrieval_metrics.mean_of_found(best if metric == "euclidean" else 1 - best)
        counts = np.full(len(places), len(self._images)) if met is None else met.sum(axis=1)
        return Figures(
            p_at_k=float(precisions.mean()),
            ap_at_k=float(retrieval_metrics.average_precision_at_k(relevant, self._relevant).mean()),
            recall=float(
                retrieval_metrics.recall_at_k(best, *retrieval_metrics.kth_nearest(self._nearest[metric])).mean()
            ),
            mean=float(np.nanmean(found)) if np.isfinite(found).any() else math.nan,
            items=float(counts.mean()),
            share=float(counts.mean() / len(self._images)),
            per_class={
                name: float(precisions[self._wanted == label].mean())
                for label, name in enumerate(self._classes)
                if (self._wanted == label).any()
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
        """How many pairs of a query and an image lie at which distance."""
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
        evenly = np.random.default_rng([seed, 2]).random(arrays["directions"].shape)
        # A component 1 of a direction is 2**26 / √d there.
        drawn = np.rint(evenly * 2.0**AXIS_BITS / space.size**0.5).astype(np.int32)
        return PStableFamily.from_parts(family.parameters(), arrays | {"directions": drawn})


def _best(distances: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the places and distances of the K nearest, nearest first, [q, K]; infinitely far where there are fewer."""
    missing = K - distances.shape[1]
    if missing > 0:
        distances = np.pad(distances, ((0, 0), (0, missing)), constant_values=np.inf)
    places = np.argpartition(distances, K - 1, axis=1)[:, :K]
    order = np.argsort(np.take_along_axis(distances, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    # A place beyond the images stands for none: its distance is infinite.
    return np.where(places < distances.shape[1] - max(0, missing), places, 0), np.take_along_axis(
        distances, places, axis=1
    )


def _met(keys: npt.NDArray[np.uint64], queries: npt.NDArray[np.uint64]) -> Bools:
    """Return which images, keys [n, tables], are in a bucket with which queries, [q, tables]: bool [q, n]."""
    met = np.zeros((len(queries), len(keys)), dtype=np.bool_)
    for table in range(keys.shape[1]):
        met |= queries[:, table, None] == keys[None, :, table]
    return met


def _mean(drawn: Sequence[Figures]) -> Figures:
    values = {
        name: float(np.mean([getattr(one, name) for one in drawn]))
        for name in ("p_at_k", "ap_at_k", "recall", "items", "share")
    }
    found = [one.mean for one in drawn if not math.isnan(one.mean)]  # with some, nothing may be found
    values["mean"] = float(np.mean(found)) if found else math.nan
    classes = {name: float(np.mean([one.per_class[name] for one in drawn])) for name in drawn[0].per_class}
    return Figures(**values, per_class=classes)
