"""The result of a search."""

from typing import Literal

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.rpc.query import METRIC_NAMES, MODE_NAMES, SearchResponse
from shared.schemas.urls import image_url


class HitAnswer(TypedDict):
    """An image found. `score` is the cosine similarity, or 1 / (1 + distance) for the Euclidean metric."""

    id: int
    score: float
    distance: float
    label: str | None
    name: str
    image: str
    thumbnail: str


class SearchAnswer(TypedDict):
    """The most similar images first, and how they were found: `candidates` were compared with the query one by one.

    Of an LSH search: the index's `generation`, the buckets that were looked into, how many of them hold more than is
    taken from one, and the images seen in them before filters and budget.
    """

    hits: list[HitAnswer]
    mode: Literal["lsh", "exact"]
    metric: Literal["cosine", "euclidean"]
    candidates: int
    collection_size: int
    timings_ms: dict[str, float]
    model: str
    model_version: int
    generation: int
    probed_buckets: int
    truncated_buckets: int
    seen: int


class SearchBatchAnswer(TypedDict):
    """The answers to the queries of a batch, in their order; the stages of each are those of the whole batch."""

    answers: list[SearchAnswer]


def search_answer(collection: str, found: SearchResponse) -> SearchAnswer:
    """Return a search's result."""
    return SearchAnswer(
        hits=[
            HitAnswer(
                id=hit.image.id,
                score=hit.score,
                distance=hit.distance,
                label=hit.image.label or None,
                name=hit.image.name,
                image=image_url(collection, hit.image.id, "/original"),
                thumbnail=image_url(collection, hit.image.id, "/thumbnail"),
            )
            for hit in found.hits
        ],
        mode="exact" if MODE_NAMES[found.mode] == "exact" else "lsh",
        metric="cosine" if METRIC_NAMES[found.metric] == "cosine" else "euclidean",
        candidates=found.candidates,
        collection_size=found.collection_size,
        timings_ms={stage: round(spent, 3) for stage, spent in sorted(found.timings_ms.items())},
        model=found.model,
        model_version=found.model_version,
        generation=found.generation,
        probed_buckets=found.probed_buckets,
        truncated_buckets=found.truncated_buckets,
        seen=found.seen,
    )
