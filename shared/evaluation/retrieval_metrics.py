"""Retrieval metrics: precision, average precision and recall at k, their means and confidence intervals.

Rankings are arrays with a row per query and a column per place, the best first. `relevant` says of each place whether a
relevant item stands there; a ranking that has fewer than k items has no relevant one at the rest of its places, and
infinite distances. docs/evaluation.md says how each metric relates to those of trec_eval.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]

CONFIDENCE = 0.95
_RESAMPLES = 2000
_DRAWN_AT_ONCE = 2**20  # places of queries: 8 MB
_TIE = 1e-9  # of a distance above 1, or of 1: what rounding may set two equal ones apart


def precision_at_k(relevant: Bools) -> Floats:
    """Return the share of relevant items among the first k, bool [q, k] to float64 [q]; places left empty count.

    The university report that this program grew from calls the mean of this "mAP".
    """
    shares: Floats = np.asarray(relevant, dtype=np.float64).mean(axis=1)
    return shares


def average_precision_at_k(relevant: Bools, total: npt.NDArray[np.integer[Any]]) -> Floats:
    """Return AP@k: the precisions at the places of the relevant items, added up and divided by min(k, total).

    Args:
        relevant: bool [q, k].
        total: How many relevant items there are to be found, [q]; without any, AP@k is 0.

    Returns:
        float64 [q], 1 where as many of the first k are relevant as can be, and no others stand before them.
    """
    places = np.arange(1, relevant.shape[1] + 1)
    precisions = np.cumsum(relevant, axis=1) / places
    most = np.minimum(relevant.shape[1], total)
    averages: Floats = np.divide((precisions * relevant).sum(axis=1), most, out=np.zeros(len(relevant)), where=most > 0)
    return averages


def kth_nearest(exact: Floats) -> tuple[Floats, Ids]:
    """Return the distance of the last of the k nearest, and how many there are: what `recall_at_k` compares with.

    Args:
        exact: Distances of the k nearest by an exact scan, float64 [q, k]; infinite where there are fewer.

    Returns:
        float64 [q], minus infinity where there is none, and int64 [q].
    """
    finite = np.isfinite(exact)
    return np.where(finite, exact, -np.inf).max(axis=1, initial=-np.inf), finite.sum(axis=1)


def recall_at_k(
    distances: npt.NDArray[np.floating[Any]],
    farthest: npt.NDArray[np.floating[Any]],
    count: npt.NDArray[np.integer[Any]],
    *,
    tie: float = _TIE,
) -> Floats:
    """Return the share of the k nearest that was found, counted by distance: of equally near items any will do.

    Args:
        distances: Of what was found, distinct items, [q, any]; infinite where nothing was.
        farthest: The distance of the last of the k nearest, [q].
        count: How many nearest there are, at most k, [q]; where there is none, nothing is missed.
        tie: How far two equal distances may lie apart, relative to those above 1.

    Returns:
        float64 [q], 0 to 1.
    """
    slack = tie * np.maximum(1.0, np.abs(np.where(np.isfinite(farthest), farthest, 0.0)))
    near = (distances <= (farthest + slack)[:, None]).sum(axis=1)
    found = np.minimum(near, count)
    recalls: Floats = np.divide(found, count, out=np.ones(len(distances)), where=np.asarray(count) > 0)
    return recalls


def others_first(ids: Ids, own: Ids, k: int) -> tuple[Ids, Bools]:
    """Return which places of a ranking of k + 1 hold the first k items but the query itself.

    Args:
        ids: Items, int64 [q, k + 1]; -1 where there is none.
        own: The query's own id, int64 [q].
        k: Places wanted.

    Returns:
        Places, int64 [q, k], and whether the query stood among the items, bool [q].
    """
    is_query = ids == own[:, None]
    return np.argsort(is_query, axis=1, kind="stable")[:, :k], is_query.any(axis=1)


def mean_of_found(values: Floats) -> Floats:
    """Return the mean of the finite values of each row, float64 [q, k] to [q]; NaN where there is none."""
    finite = np.isfinite(values)
    counts = finite.sum(axis=1)
    sums = np.where(finite, values, 0.0).sum(axis=1)
    means: Floats = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return means


def confusion(queries: Ids, hits: Ids, *, classes: int, hit_classes: int) -> Ids:
    """Return how many hits of each class the queries of each class have: int64 [classes, hit_classes].

    Args:
        queries: The class of each query, [q].
        hits: The class of each hit, [q, k]; -1 where there is none.
        classes: How many classes of queries there are.
        hit_classes: How many classes of hits there are, one for unlabelled items among them.
    """
    cells = (queries[:, None] * hit_classes + hits)[hits >= 0]
    return np.bincount(cells, minlength=classes * hit_classes).reshape(classes, hit_classes).astype(np.int64)


# Means, and how sure they are


def macro_mean(values: Floats, classes: Ids) -> float:
    """Return the mean of the class means, so that each class counts alike: values [q], the class of each query [q]."""
    return float(np.mean([part.mean() for part in by_class(values, classes)]))


def by_class(values: Floats, classes: Ids) -> list[Floats]:
    """Return the values of each class that there is, in the order of the classes: [q, …] to [members, …] of each."""
    order = np.argsort(classes, kind="stable")
    return np.split(values[order], np.flatnonzero(np.diff(classes[order])) + 1)


def bootstrap_means(values: Floats, *, seed: Sequence[int], resamples: int = _RESAMPLES) -> Floats:
    """Return the means of random resamples of the queries, of the same size, drawn with replacement.

    Efron, Tibshirani: An Introduction to the Bootstrap, 1993.

    Args:
        values: float64 [q, m]: m metrics of each query, which are resampled together; q ≥ 1.
        seed: Of what is drawn.
        resamples: How many.

    Returns:
        float64 [resamples, m].
    """
    rng = np.random.default_rng(list(seed))
    size = len(values)
    step = max(1, _DRAWN_AT_ONCE // size)
    means = np.empty((resamples, values.shape[1]))
    for start, stop in pairwise([*range(0, resamples, step), resamples]):
        means[start:stop] = values[rng.integers(size, size=(stop - start, size))].mean(axis=1)
    return means


def interval(means: Floats, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval in which the mean lies with this confidence, by the means of resamples, [resamples]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
