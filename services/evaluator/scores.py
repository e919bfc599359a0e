"""From the results of a run to its scores: for each query, each class and all. docs/evaluation.md defines them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.evaluator.queries import Queries
from services.evaluator.run_results import Run, RunResults
from shared.evaluation import retrieval_metrics
from shared.evaluation.classes import Classes, class_text, read_classes
from shared.evaluation.retrieval_metrics import bootstrap_means, interval
from shared.evaluation.rows import ROWS
from shared.evaluation.run_scores import (
    ClassScores,
    EvaluatedIndex,
    Interval,
    LatencySummary,
    MacroScores,
    RunScores,
    ScoresWithoutCopies,
)

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class QueryScores:
    """The scores of q queries, float64 [q] each; NaN for the mean distance and similarity of a query without hits."""

    p_at_k: Floats
    ap_at_k: Floats
    recall_at_k: Floats
    candidates: Floats
    mean_distance: Floats
    mean_similarity: Floats


@dataclass(frozen=True, eq=False)
class _Members:
    """Which queries belong to which classes: a query counts in each class that it has.

    Attributes:
        labels: The classes, by name.
        queries: The place of the query of each membership; likewise `classes`, the place in `labels`.
    """

    labels: Sequence[str]
    queries: Places
    classes: Places

    @classmethod
    def of(cls, queries: Queries) -> Self:
        """Return the memberships of queries."""
        pairs = [(place, label) for place, classes in enumerate(queries.labels) for label in classes]
        labels, numbers = np.unique(np.array([label for _, label in pairs], dtype=object), return_inverse=True)
        return cls(labels.tolist(), np.array([place for place, _ in pairs], dtype=np.intp), numbers)


def score_run(
    run: Run,
    results: RunResults,
    exact: RunResults,
    queries: Queries,
    index: EvaluatedIndex | None,
    *,
    without_copies: retrieval_metrics.Bools,
    seed: int,
) -> tuple[RunScores, pa.Table]:
    """Return the scores of a run, and its rows as `ROWS`.

    Args:
        run: How was searched.
        results: What was found.
        exact: What the exact scan found by the same metric among the same images.
        queries: What was searched for.
        index: The index that was searched; None for an exact scan.
        without_copies: Which queries have no copy in the collection, bool [q].
        seed: Of the intervals.
    """
    scores = _score_queries(results, exact, queries)
    members = _Members.of(queries)
    per_class, macro_interval = _score_classes(scores, members, queries, seed=seed)
    fractions = np.divide(
        scores.candidates, results.searchable, out=np.zeros(len(results)), where=results.searchable > 0
    )
    run_scores = RunScores(
        id=run.id,
        search="exact" if index is None else "lsh",
        metric=run.metric,
        distractors=run.distractors,
        p_at_k=float(scores.p_at_k.mean()),
        ap_at_k=float(scores.ap_at_k.mean()),
        recall_at_k=float(scores.recall_at_k.mean()),
        candidates=float(scores.candidates.mean()),
        candidate_fraction=float(fractions.mean()),
        seen=float(results.seen.mean()),
        mean_distance=_mean(scores.mean_distance),
        mean_similarity=_mean(scores.mean_similarity),
        without_copies=ScoresWithoutCopies(
            queries=int(without_copies.sum()),
            p_at_k=_mean(scores.p_at_k[without_copies]),
            ap_at_k=_mean(scores.ap_at_k[without_copies]),
        ),
        macro=MacroScores(
            p_at_k=retrieval_metrics.macro_mean(scores.p_at_k[members.queries], members.classes),
            ap_at_k=retrieval_metrics.macro_mean(scores.ap_at_k[members.queries], members.classes),
            recall_at_k=retrieval_metrics.macro_mean(scores.recall_at_k[members.queries], members.classes),
        ),
        interval=_intervals(scores, seed=seed) | macro_interval,
        per_class=per_class,
        confusion=_confusion(results, members),
        latency_ms=_summarise(results.stages.get("total")),
        stages_ms={stage: _summarise(times) for stage, times in results.stages.items()},
        index=index,
    )
    return run_scores, _rows(run, results, queries, scores)


def _score_queries(results: RunResults, exact: RunResults, queries: Queries) -> QueryScores:
    farthest, wanted = retrieval_metrics.kth_nearest(exact.distances)
    relevant = _relevant(results, queries.labels)
    return QueryScores(
        p_at_k=retrieval_metrics.precision_at_k(relevant),
        ap_at_k=retrieval_metrics.average_precision_at_k(relevant, queries.relevant),
        recall_at_k=retrieval_metrics.recall_at_k(results.distances, farthest, wanted),
        candidates=results.candidates.astype(np.float64),
        mean_distance=retrieval_metrics.mean_of_found(results.distances),
        mean_similarity=retrieval_metrics.mean_of_found(results.scores),
    )


def _relevant(results: RunResults, labels: Sequence[Classes]) -> retrieval_metrics.Bools:
    """Return which hits share a class with their query, bool [q, k]."""
    relevant = np.zeros(results.ids.shape, dtype=np.bool_)
    for row, classes, hit_labels in zip(relevant, labels, results.labels, strict=True):
        row[: len(hit_labels)] = [not set(classes).isdisjoint(read_classes(text)) for text in hit_labels]
    return relevant & (results.ids >= 0)


def _intervals(scores: QueryScores, *, seed: int) -> dict[str, Interval]:
    """Return the intervals of the means over all queries."""
    names = ("p_at_k", "ap_at_k", "recall_at_k", "candidates")
    columns = (scores.p_at_k, scores.ap_at_k, scores.recall_at_k, scores.candidates)
    means = bootstrap_means(np.column_stack(columns), seed=[seed])
    return {name: interval(means[:, column]) for column, name in enumerate(names)}


def _score_classes(
    scores: QueryScores, members: _Members, queries: Queries, *, seed: int
) -> tuple[dict[str, ClassScores], dict[str, Interval]]:
    """Return the scores of each class, and the intervals of their means.

    For those, the queries of a class are drawn among the queries of the class.
    """
    per_class: dict[str, ClassScores] = {}
    means = []
    for number, label in enumerate(members.labels):
        places = members.queries[members.classes == number]
        p_at_k, ap_at_k = scores.p_at_k[places], scores.ap_at_k[places]
        class_means = bootstrap_means(np.column_stack([p_at_k, ap_at_k]), seed=[seed, number + 1])
        means.append(class_means)
        per_class[label] = ClassScores(
            queries=len(places),
            relevant=queries.classes.get(label, 0),
            p_at_k=float(p_at_k.mean()),
            ap_at_k=float(ap_at_k.mean()),
            recall_at_k=float(scores.recall_at_k[places].mean()),
            candidates=float(scores.candidates[places].mean()),
            mean_distance=_mean(scores.mean_distance[places]),
            mean_similarity=_mean(scores.mean_similarity[places]),
            interval={"p_at_k": interval(class_means[:, 0]), "ap_at_k": interval(class_means[:, 1])},
        )
    macro = np.mean(means, axis=0)
    return per_class, {"macro_p_at_k": interval(macro[:, 0]), "macro_ap_at_k": interval(macro[:, 1])}


def _confusion(results: RunResults, members: _Members) -> dict[str, dict[str, int]]:
    """Return how often hits of each class were found for queries of each class.

    A hit counts as of the query's class if it is, or else as of its first class; "": of none.
    """
    counts: dict[str, Counter[str]] = {label: Counter() for label in members.labels}
    hit_classes = [[read_classes(text) for text in hit_labels] for hit_labels in results.labels]
    for place, number in zip(members.queries.tolist(), members.classes.tolist(), strict=True):
        label = members.labels[number]
        counts[label].update(label if label in classes else next(iter(classes), "") for classes in hit_classes[place])
    return {label: dict(sorted(found.items())) for label, found in counts.items()}


def _mean(values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _summarise(times: Floats | None) -> LatencySummary:
    timed = times[np.isfinite(times)] if times is not None else np.empty(0)
    p50, p95 = (float(value) for value in np.quantile(timed, [0.5, 0.95])) if len(timed) else (None, None)
    return LatencySummary(p50=p50, p95=p95, queries=len(timed))


def _rows(run: Run, results: RunResults, queries: Queries, scores: QueryScores) -> pa.Table:
    times = results.stages.get("total", np.full(len(results), np.nan))
    columns = {
        "run": [run.id] * len(results),
        "query": np.arange(len(results), dtype=np.int32),
        "digest": list(queries.digests),
        "id": queries.ids,
        "name": list(queries.names),
        "label": [class_text(classes) for classes in queries.labels],
        "in_collection": queries.in_collection,
        "relevant": queries.relevant.astype(np.int32),
        "hits": list(results.hits(results.ids)),
        "hit_labels": [list(hit_labels) for hit_labels in results.labels],
        "distances": list(results.hits(results.distances)),
        "scores": list(results.hits(results.scores)),
        "p_at_k": scores.p_at_k,
        "ap_at_k": scores.ap_at_k,
        "recall_at_k": scores.recall_at_k,
        "candidates": results.candidates,
        "seen": results.seen,
        "latency_ms": pa.array(times, pa.float64(), from_pandas=True),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in ROWS], schema=ROWS)
