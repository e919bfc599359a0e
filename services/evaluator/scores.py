"""From answers to figures: what docs/evaluation.md defines, for each query, each class and all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.evaluator.queries import Queries
from services.evaluator.run_results import Answers, Run
from shared.evaluation import retrieval_metrics
from shared.evaluation.rows import ROWS

Floats = npt.NDArray[np.float64]
_FIGURES = ("p_at_k", "ap_at_k", "recall_at_k", "candidates")


def of_run(
    run: Run,
    answers: Answers,
    exact: Answers,
    queries: Queries,
    index: dict[str, Any] | None,
    *,
    clean: retrieval_metrics.Bools,
    seed: int,
) -> tuple[dict[str, Any], pa.Table]:
    """Return the figures of a run as JSON values, and its rows as `ROWS`.

    Args:
        run: What was searched.
        answers: What was found.
        exact: What the exact scan found by the same metric among the same images.
        queries: What was searched for.
        index: Parameters of the index that was asked; None for an exact scan.
        clean: Which queries have no copy in the collection, bool [q].
        seed: Of the intervals.
    """
    farthest, wanted = retrieval_metrics.kth_nearest(exact.distances)
    relevant = _relevant(answers, queries.labels)
    each = {
        "p_at_k": retrieval_metrics.precision_at_k(relevant),
        "ap_at_k": retrieval_metrics.average_precision_at_k(relevant, queries.relevant),
        "recall_at_k": retrieval_metrics.recall_at_k(answers.distances, farthest, wanted),
        "candidates": answers.candidates.astype(np.float64),
        "mean_distance": retrieval_metrics.mean_of_found(answers.distances),
        "mean_similarity": retrieval_metrics.mean_of_found(answers.scores),
    }
    labels, classes = np.unique(np.array(queries.labels, dtype=object), return_inverse=True)
    per_class, macro = _per_class(each, labels.tolist(), classes, queries, seed=seed)
    drawn = retrieval_metrics.bootstrap_means(np.column_stack([each[name] for name in _FIGURES]), seed=[seed])
    intervals = {name: retrieval_metrics.interval(drawn[:, place]) for place, name in enumerate(_FIGURES)}
    fractions = np.divide(
        each["candidates"], answers.searchable, out=np.zeros(len(answers)), where=answers.searchable > 0
    )
    found = {
        "id": run.id,
        "search": "exact" if index is None else "lsh",
        "metric": run.metric,
        "distractors": run.distractors,
        **{name: float(each[name].mean()) for name in _FIGURES},
        "candidate_fraction": float(fractions.mean()),
        "seen": float(answers.seen.mean()),
        "mean_distance": _mean(each["mean_distance"]),
        "mean_similarity": _mean(each["mean_similarity"]),
        "without_copies": {
            "queries": int(clean.sum()),
            **{name: _mean(each[name][clean]) for name in _FIGURES[:2]},
        },
        "macro": {name: retrieval_metrics.macro_mean(each[name], classes) for name in _FIGURES[:3]},
        "interval": intervals | macro,
        "per_class": per_class,
        "confusion": _confusion(answers, labels.tolist(), classes),
        "latency_ms": _spread(answers.stages.get("total")),
        "stages_ms": {name: _spread(times) for name, times in answers.stages.items()},
        "index": index,
    }
    return found, _rows(run, answers, queries, each)


def _relevant(answers: Answers, labels: Sequence[str]) -> retrieval_metrics.Bools:
    """Return which hits are of their query's class, bool [q, k]."""
    relevant = np.zeros(answers.ids.shape, dtype=np.bool_)
    for row, label, hits in zip(relevant, labels, answers.labels, strict=True):
        row[: len(hits)] = [hit == label for hit in hits]
    return relevant & (answers.ids >= 0)


def _per_class(
    each: dict[str, Floats], labels: Sequence[str], classes: npt.NDArray[np.intp], queries: Queries, *, seed: int
) -> tuple[dict[str, Any], dict[str, tuple[float, float]]]:
    """Return the figures of each class, and the intervals of their means, the queries of a class drawn among them."""
    found: dict[str, Any] = {}
    means = []
    for place, label in enumerate(labels):
        its = np.flatnonzero(classes == place)
        drawn = retrieval_metrics.bootstrap_means(
            np.column_stack([each[name][its] for name in _FIGURES[:2]]), seed=[seed, place + 1]
        )
        means.append(drawn)
        found[label] = {
            "queries": len(its),
            "relevant": queries.classes.get(label, 0),
            **{name: float(each[name][its].mean()) for name in _FIGURES},
            "mean_distance": _mean(each["mean_distance"][its]),
            "mean_similarity": _mean(each["mean_similarity"][its]),
            "interval": {
                name: retrieval_metrics.interval(drawn[:, column]) for column, name in enumerate(_FIGURES[:2])
            },
        }
    macro = np.mean(means, axis=0)
    return found, {
        f"macro_{name}": retrieval_metrics.interval(macro[:, column]) for column, name in enumerate(_FIGURES[:2])
    }


def _confusion(answers: Answers, labels: Sequence[str], classes: npt.NDArray[np.intp]) -> dict[str, dict[str, int]]:
    flat = [label for hits in answers.labels for label in hits]
    hit_labels, places = np.unique(np.array([*flat, ""], dtype=object), return_inverse=True)
    hits = np.full(answers.ids.shape, -1, dtype=np.int64)
    hits[answers.ids >= 0] = places[:-1]
    counts = retrieval_metrics.confusion(classes, hits, classes=len(labels), hit_classes=len(hit_labels))
    return {
        label: {hit: count for hit, count in zip(hit_labels.tolist(), row, strict=True) if count}
        for label, row in zip(labels, counts.tolist(), strict=True)
    }


def _mean(values: Floats) -> float | None:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else None


def _spread(times: Floats | None) -> dict[str, Any]:
    timed = times[np.isfinite(times)] if times is not None else np.empty(0)
    p50, p95 = (float(value) for value in np.quantile(timed, [0.5, 0.95])) if len(timed) else (None, None)
    return {"p50": p50, "p95": p95, "queries": len(timed)}


def _rows(run: Run, answers: Answers, queries: Queries, each: dict[str, Floats]) -> pa.Table:
    times = answers.stages.get("total", np.full(len(answers), np.nan))
    columns = {
        "run": [run.id] * len(answers),
        "query": np.arange(len(answers), dtype=np.int32),
        "digest": list(queries.digests),
        "id": queries.ids,
        "name": list(queries.names),
        "label": list(queries.labels),
        "in_collection": queries.in_collection,
        "relevant": queries.relevant.astype(np.int32),
        "hits": list(answers.hits(answers.ids)),
        "hit_labels": [list(labels) for labels in answers.labels],
        "distances": list(answers.hits(answers.distances)),
        "scores": list(answers.hits(answers.scores)),
        **{name: each[name] for name in _FIGURES[:3]},
        "candidates": answers.candidates,
        "seen": answers.seen,
        "latency_ms": pa.array(times, pa.float64(), from_pandas=True),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in ROWS], schema=ROWS)
