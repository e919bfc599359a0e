"""What the API answers about evaluations; docs/evaluation.md says what the scores mean.

`shared.evaluation.report_json` has the evaluation itself.
"""

from typing import Literal

import pyarrow as pa
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.evaluation.report import EvaluationReport
from shared.evaluation.report_json import JudgedByAnswer
from shared.evaluation.rows import QueryRow, query_rows
from shared.evaluation.run_scores import RunScores
from shared.schemas.urls import api_url
from shared.search_limits import Metric


class RunSummaryAnswer(TypedDict):
    """The main scores of a run."""

    id: str
    search: Literal["exact", "lsh"]
    metric: Metric
    distractors: bool
    p_at_k: float
    ap_at_k: float
    recall_at_k: float
    candidates: float


class EvaluationSummaryAnswer(TypedDict):
    """An evaluation in short; `settings`: how many of a grid it has.

    `copied`: queries of which the collection has a copy; null if none was looked for.
    """

    id: str
    url: str
    collection: str
    created: str
    seconds: float
    k: int
    field: str
    queries: int
    query_set: JudgedByAnswer
    copied: int | None
    images: int
    labelled: int
    model: str
    model_version: int
    generation: int
    runs: list[RunSummaryAnswer]
    settings: int


class EvaluationsAnswer(TypedDict):
    """A part of the evaluations, the newest first; `total` are there."""

    evaluations: list[EvaluationSummaryAnswer]
    total: int
    limit: int
    offset: int


class JudgedHitAnswer(TypedDict):
    """An image that a query found; `label` is empty for an unlabelled one."""

    id: int
    label: str
    distance: float
    score: float


class JudgedQueryAnswer(TypedDict):
    """A query of a run, its scores and its hits; `latency_ms` is null if it was not timed alone."""

    query: int
    id: int
    digest: str
    name: str
    label: str
    in_collection: bool
    relevant: int
    p_at_k: float
    ap_at_k: float
    recall_at_k: float
    candidates: int
    seen: int
    latency_ms: float | None
    hits: list[JudgedHitAnswer]


class JudgedQueriesAnswer(TypedDict):
    """A part of the queries of a run; `total` are there."""

    run: str
    queries: list[JudgedQueryAnswer]
    total: int
    limit: int
    offset: int


class EvaluationStartedAnswer(TypedDict):
    """An evaluation that was begun: the job that does it, and where it will be."""

    job: str
    url: str
    evaluation: str


def evaluation_url(evaluation: str) -> str:
    """Return the path of an evaluation."""
    return api_url(f"/evaluations/{evaluation}")


def summary_answer(report: EvaluationReport, *, query_set: JudgedByAnswer) -> EvaluationSummaryAnswer:
    """Return an evaluation in short, with what is shown of its query set."""
    collection = report.collection
    return EvaluationSummaryAnswer(
        id=report.id,
        url=evaluation_url(report.id),
        collection=collection.name,
        created=report.created,
        seconds=report.seconds,
        k=report.k,
        field=report.field,
        queries=report.queries,
        query_set=query_set,
        copied=report.query_set.copied,
        images=collection.images,
        labelled=collection.labelled,
        model=collection.model,
        model_version=collection.model_version,
        generation=collection.generation,
        runs=[_run_summary(run) for run in report.runs],
        settings=len(report.grid),
    )


def _run_summary(run: RunScores) -> RunSummaryAnswer:
    return RunSummaryAnswer(
        id=run.id,
        search=run.search,
        metric=run.metric,
        distractors=run.distractors,
        p_at_k=run.p_at_k,
        ap_at_k=run.ap_at_k,
        recall_at_k=run.recall_at_k,
        candidates=run.candidates,
    )


def queries_answer(rows: pa.Table, *, run: str, worst: bool, limit: int, offset: int) -> JudgedQueriesAnswer:
    """Return a part of the rows of a run, in their order or those with the lowest AP@k first."""
    ordered = rows.sort_by([("ap_at_k", "ascending"), ("query", "ascending")]) if worst else rows
    page = query_rows(ordered.slice(offset, limit))
    return JudgedQueriesAnswer(
        run=run, queries=[_query_answer(row) for row in page], total=len(rows), limit=limit, offset=offset
    )


def _query_answer(row: QueryRow) -> JudgedQueryAnswer:
    columns = (row["hits"], row["hit_labels"], row["distances"], row["scores"])
    return JudgedQueryAnswer(
        query=row["query"],
        id=row["id"],
        digest=row["digest"],
        name=row["name"],
        label=row["label"],
        in_collection=row["in_collection"],
        relevant=row["relevant"],
        p_at_k=row["p_at_k"],
        ap_at_k=row["ap_at_k"],
        recall_at_k=row["recall_at_k"],
        candidates=row["candidates"],
        seen=row["seen"],
        latency_ms=row["latency_ms"],
        hits=[
            JudgedHitAnswer(id=image_id, label=label, distance=distance, score=score)
            for image_id, label, distance, score in zip(*columns, strict=True)
        ],
    )
