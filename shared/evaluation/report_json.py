"""Evaluation reports as JSON, as they are stored, as the API answers them, and as ``evaluate --json`` prints them.

`shared.evaluation.report` has the reports as objects, and says what the fields mean.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import WithJsonSchema
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.evaluation.index_setting import IndexSettingJson
from shared.search_limits import Metric

SettingJson = Annotated[IndexSettingJson, WithJsonSchema({"type": "object", "additionalProperties": True})]


class JudgedIndexAnswer(TypedDict):
    """The parameters of an index that was evaluated; `generation` 0: one of a grid."""

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
    """The scores of the queries of a class; `relevant`: images of the class in the collection."""

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
    """Scores of the queries of which the collection has no copy; null if there is no such query."""

    queries: int
    p_at_k: float | None
    ap_at_k: float | None


class RunAnswer(TypedDict):
    """The scores of one way to search: means over the queries, the interval that each mean lies in, and each class.

    `confusion` counts the hits by the class of the query and that of the hit, "" for unlabelled ones. Evaluations
    from before copies were looked for have no `without_copies`.
    """

    id: str
    search: Literal["exact", "lsh"]
    metric: Metric
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

    setting: SettingJson
    index: JudgedIndexAnswer
    images: int
    build_s: float
    buckets: int
    predicted: dict[str, float] | None
    runs: list[RunAnswer]


class JudgedCollectionAnswer(TypedDict):
    """The collection as it was evaluated."""

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
    """What a collection was evaluated by, in short. The same `digest`: the same images with the same labels."""

    kind: Literal["folder", "kept", "sample"]
    name: str | None
    digest: str
    seed: int | None
    in_collection: int
    without_relevant: int
    rejected: list[RejectedQueryAnswer]


class QuerySetAnswer(JudgedByAnswer):
    """What a collection was evaluated by, and which `copies` of its queries the collection has.

    `unchecked` queries could not be compared, since their originals are gone. Older evaluations have neither.
    """

    copies: NotRequired[list[CopyAnswer]]
    unchecked: NotRequired[int]


class EvaluationAnswer(TypedDict):
    """How good the answers of a collection were found to be. `changed`: images came or went meanwhile.

    `field` is the one whose values are the classes.
    """

    id: str
    created: str
    seconds: float
    program: str
    k: int
    field: str
    queries: int
    confidence: float
    collection: JudgedCollectionAnswer
    changed: bool
    query_set: QuerySetAnswer
    runs: list[RunAnswer]
    grid: list[SettingAnswer]
