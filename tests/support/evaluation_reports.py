"""Evaluation reports for tests: runs, grid settings and reports, of which a test says only what matters to it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from shared.evaluation.index_setting import IndexSetting
from shared.evaluation.report import (
    EvaluatedCollection,
    EvaluationReport,
    QueryCopy,
    QuerySetReport,
    SettingReport,
)
from shared.evaluation.run_scores import (
    ClassScores,
    EvaluatedIndex,
    LatencySummary,
    MacroScores,
    RunScores,
    ScoresWithoutCopies,
)
from shared.state.outcomes import Rejection

INDEX = EvaluatedIndex(generation=1, family="p-stable", tables=4, hashes=6, width=1.5, probes=2, budget_share=None)


def a_run(run_id: str, **more: Any) -> RunScores:
    """Return a run by its id, such as ``lsh-cosine-all``."""
    search, metric, among = run_id.split("-")
    run = RunScores(
        id=run_id,
        search="exact" if search == "exact" else "lsh",
        metric="cosine" if metric == "cosine" else "euclidean",
        distractors=among == "all",
        p_at_k=0.5,
        ap_at_k=0.4,
        recall_at_k=0.9,
        candidates=10.0,
        candidate_fraction=0.1,
        seen=12.0,
        mean_distance=0.25,
        mean_similarity=None,
        without_copies=ScoresWithoutCopies(queries=0, p_at_k=None, ap_at_k=None),
        macro=MacroScores(p_at_k=0.5, ap_at_k=0.4, recall_at_k=0.9),
        interval=dict.fromkeys(("p_at_k", "ap_at_k", "recall_at_k", "candidates"), (0.0, 1.0)),
        per_class={"forms": a_class(3)},
        confusion={"forms": {"forms": 2, "": 1}},
        latency_ms=LatencySummary(p50=1.5, p95=2.5, queries=3),
        stages_ms={"probe": LatencySummary(p50=None, p95=None, queries=0)},
        index=None if search == "exact" else INDEX,
    )
    return replace(run, **more)


def a_class(queries: int) -> ClassScores:
    """Return the scores of a class of so many queries."""
    return ClassScores(
        queries=queries,
        relevant=8,
        p_at_k=0.5,
        ap_at_k=0.4,
        recall_at_k=0.9,
        candidates=10.0,
        mean_distance=None,
        mean_similarity=0.75,
        interval={"p_at_k": (0.25, 0.75), "ap_at_k": (0.0, 1.0)},
    )


def a_setting(number: int, recall: float, **parameters: Any) -> SettingReport:
    """Return a setting of a grid by its parameters; its index has another width than was asked for."""
    return SettingReport(
        setting=IndexSetting(family="p-stable", probes=1, **parameters),
        index=replace(INDEX, generation=0, **parameters | {"width": 1.0 + number}),
        images=12,
        build_s=1.0,
        buckets=3,
        predicted=None,
        runs=(a_run(f"grid{number}-cosine-all", recall_at_k=recall),),
    )


def a_query_set(**more: Any) -> QuerySetReport:
    """Return a query set."""
    queries = QuerySetReport(
        kind="folder",
        name=None,
        digest="ab" * 32,
        seed=None,
        in_collection=1,
        without_relevant=0,
        rejected=(Rejection("a.txt", "not-an-image", "it is text"),),
        copies=(
            QueryCopy(
                name="one.jpg",
                digest="cd" * 32,
                label="forms",
                image_id=7,
                image_label="",
                kind="near",
                similarity=0.95,
                mirrored=True,
                distance=0.125,
            ),
        ),
        unchecked=2,
    )
    return replace(queries, **more)


def a_report(runs: Sequence[RunScores] = (), grid: Sequence[SettingReport] = (), **more: Any) -> EvaluationReport:
    """Return a report."""
    report = EvaluationReport(
        id="1",
        created="2026-01-01T00:00:00.000Z",
        seconds=1.5,
        program="1.0",
        k=10,
        queries=3,
        confidence=0.95,
        collection=EvaluatedCollection(
            name="art",
            images=12,
            labelled=8,
            classes={"forms": 8},
            model="model",
            model_version=1,
            dim=4,
            generation=1,
        ),
        changed=False,
        query_set=a_query_set(),
        runs=tuple(runs),
        grid=tuple(grid),
    )
    return replace(report, **more)
