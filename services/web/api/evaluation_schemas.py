"""What the API answers about evaluations; docs/evaluation.md says what the figures mean."""

from typing import Any, Literal, NotRequired, cast

import pyarrow as pa
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from services.web.api.schemas import API


class JudgedIndexAnswer(TypedDict):
    """The parameters of an index that was judged; `generation` 0: one of a grid."""

    generation: int
    family: str
    tables: int
    hashes: NotRequired[int]
    width: NotRequired[float]
    cells: NotRequired[int]
    probes: int
    budget_share: float | None


class SpreadAnswer(TypedDict):
    """Median and 95th percentile in milliseconds, over the queries that were timed one at a time."""

    p50: float | None
    p95: float | None
    queries: int


class ClassFiguresAnswer(TypedDict):
    """The figures of the queries of a class; `relevant`: images of the class in the collection."""

    queries: int
    relevant: int
    p_at_k: float
    ap_at_k: float
    recall_at_k: float
    candidates: float
    mean_distance: float | None
    mean_similarity: float | None
    interval: dict[str, list[float]]


class WithoutCopiesAnswer(TypedDict):
    """Figures of the queries of which the collection has no copy; null if there is no such query."""

    queries: int
    p_at_k: float | None
    ap_at_k: float | None


class RunAnswer(TypedDict):
    """One way to search, judged: means over the queries, the interval that each mean lies in, and each class.

    `confusion` counts the hits by the class of the query and that of the hit, "" for unlabelled ones. Evaluations
    from before copies were looked for have no `without_copies`.
    """

    id: str
    search: Literal["exact", "lsh"]
    metric: Literal["cosine", "euclidean"]
    distractors: bool
    p_at_k: float
    ap_at_k: float
    recall_at_k: float
    candidates: float
    candidate_fraction: float
    seen: float
    mean_distance: float | None
    mean_similarity: float | None
    without_copies: NotRequired[WithoutCopiesAnswer]
    macro: dict[str, float]
    interval: dict[str, list[float]]
    per_class: dict[str, ClassFiguresAnswer]
    confusion: dict[str, dict[str, int]]
    latency_ms: SpreadAnswer
    stages_ms: dict[str, SpreadAnswer]
    index: JudgedIndexAnswer | None


class SettingAnswer(TypedDict):
    """A setting of a grid: what was asked for, the index that was built, what was predicted of it, and its runs."""

    setting: dict[str, Any]
    index: JudgedIndexAnswer
    images: int
    build_s: float
    buckets: int
    predicted: dict[str, float] | None
    runs: list[RunAnswer]


class JudgedCollectionAnswer(TypedDict):
    """The collection as it was judged."""

    name: str
    images: int
    labelled: int
    classes: dict[str, int]
    model: str
    model_version: int
    dim: int
    generation: int


class RejectedQueryAnswer(TypedDict):
    """A file that was sent as a query and is none."""

    name: str
    code: str
    reason: str


class CopyAnswer(TypedDict):
    """A query and an image of the collection that is the same picture; `image_label` is empty for an unlabelled one.

    `identical`: byte for byte. `near`: by its pixels, which are `similarity` alike, as mirror images if `mirrored`.
    """

    name: str
    digest: str
    label: str
    image: int
    image_label: str
    kind: Literal["identical", "near"]
    similarity: float
    mirrored: bool
    distance: float


class JudgedByAnswer(TypedDict):
    """What a collection was judged by, in short. The same `digest`: the same images with the same labels."""

    kind: Literal["folder", "kept", "sample"]
    name: str | None
    digest: str
    seed: int | None
    in_collection: int
    without_relevant: int
    rejected: list[RejectedQueryAnswer]


class QuerySetAnswer(JudgedByAnswer):
    """What a collection was judged by, and which `copies` of its queries the collection has.

    `unchecked` queries could not be compared, since their originals are gone. Older evaluations have neither.
    """

    copies: NotRequired[list[CopyAnswer]]
    unchecked: NotRequired[int]


class EvaluationAnswer(TypedDict):
    """How good the answers of a collection were found to be. `changed`: images came or went meanwhile."""

    id: str
    created: str
    seconds: float
    program: str
    k: int
    queries: int
    confidence: float
    collection: JudgedCollectionAnswer
    changed: bool
    query_set: QuerySetAnswer
    runs: list[RunAnswer]
    grid: list[SettingAnswer]


class RunSummaryAnswer(TypedDict):
    """The main figures of a run."""

    id: str
    search: Literal["exact", "lsh"]
    metric: Literal["cosine", "euclidean"]
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
    """A query of a run, its figures and its hits; `latency_ms` is null if it was not timed alone."""

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
    return f"{API}/evaluations/{evaluation}"


def summary_answer(report: EvaluationAnswer) -> EvaluationSummaryAnswer:
    """Return an evaluation in short."""
    collection, queries = report["collection"], report["query_set"]
    copies = queries.get("copies")
    judged_by = {name: value for name, value in queries.items() if name in JudgedByAnswer.__annotations__}
    return EvaluationSummaryAnswer(
        id=report["id"],
        url=evaluation_url(report["id"]),
        collection=collection["name"],
        created=report["created"],
        seconds=report["seconds"],
        k=report["k"],
        queries=report["queries"],
        query_set=cast("JudgedByAnswer", judged_by),
        copied=None if copies is None else len({one["digest"] for one in copies}),
        images=collection["images"],
        labelled=collection["labelled"],
        model=collection["model"],
        model_version=collection["model_version"],
        generation=collection["generation"],
        runs=[_run_summary(run) for run in report["runs"]],
        settings=len(report["grid"]),
    )


def _run_summary(run: RunAnswer) -> RunSummaryAnswer:
    return RunSummaryAnswer(
        id=run["id"],
        search=run["search"],
        metric=run["metric"],
        distractors=run["distractors"],
        p_at_k=run["p_at_k"],
        ap_at_k=run["ap_at_k"],
        recall_at_k=run["recall_at_k"],
        candidates=run["candidates"],
    )


def queries_answer(rows: pa.Table, *, run: str, worst: bool, limit: int, offset: int) -> JudgedQueriesAnswer:
    """Return a part of the rows of a run, in their order or those with the lowest AP@k first."""
    ordered = rows.sort_by([("ap_at_k", "ascending"), ("query", "ascending")]) if worst else rows
    page = ordered.slice(offset, limit).to_pylist()
    return JudgedQueriesAnswer(
        run=run, queries=[_query_answer(row) for row in page], total=len(rows), limit=limit, offset=offset
    )


def _query_answer(row: dict[str, Any]) -> JudgedQueryAnswer:
    columns = (row["hits"], row["hit_labels"], row["distances"], row["scores"])
    hits = [
        JudgedHitAnswer(id=image, label=label, distance=distance, score=score)
        for image, label, distance, score in zip(*columns, strict=True)
    ]
    own = {name: row[name] for name in JudgedQueryAnswer.__annotations__ if name != "hits"}
    return cast("JudgedQueryAnswer", own | {"hits": hits})
