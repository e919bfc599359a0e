"""The result of a search over several collections."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.proof.findings import Proof
from shared.rpc.query import METRIC_NAMES, MODE_NAMES, SearchAcrossResponse, SkippedCollection
from shared.schemas.search import HitAnswer, hit_answer

Reason = Literal["failed", "other-model", "unknown"]

_REASONS: Final[dict[int, Reason]] = {
    SkippedCollection.FAILED: "failed",
    SkippedCollection.OTHER_MODEL: "other-model",
    SkippedCollection.UNKNOWN: "unknown",
}


class AcrossHitAnswer(HitAnswer):
    """An image found, as in a search of one collection, and the collection that it is in."""

    collection: str


class SearchedCollection(TypedDict):
    """How a collection was searched, as a search of it alone says it."""

    name: str
    mode: Literal["lsh", "exact"]
    candidates: int
    collection_size: int
    generation: int
    index_fault: str | None
    windows: int


class SkippedCollectionAnswer(TypedDict):
    """A collection that was not searched.

    Its model is another one (`other-model`), it cannot be searched at the moment (`failed`), or it is gone (`unknown`);
    `detail` says more.
    """

    name: str
    reason: Reason
    detail: str


class AcrossAnswer(TypedDict):
    """The most similar images of several collections, the best first, and how they were found.

    An image that is in several collections is a hit in each of them. The times are those of all collections together.
    """

    hits: list[AcrossHitAnswer]
    metric: Literal["cosine", "euclidean"]
    model: str
    model_version: int
    timings_ms: dict[str, float]
    collections: list[SearchedCollection]
    left_out: list[SkippedCollectionAnswer]


def across_answer(found: SearchAcrossResponse, proofs: Mapping[int, Proof] = MappingProxyType({})) -> AcrossAnswer:
    """Return the result of a search over several collections; `proofs` are those of some of its hits, by their ids."""
    return AcrossAnswer(
        hits=[
            AcrossHitAnswer(
                **hit_answer(placed.collection, placed.hit, proofs.get(placed.hit.image.id), grouped=found.grouped),
                collection=placed.collection,
            )
            for placed in found.hits
        ],
        metric="cosine" if METRIC_NAMES[found.answers[0].found.metric] == "cosine" else "euclidean",
        model=found.model,
        model_version=found.model_version,
        timings_ms={stage: round(spent, 3) for stage, spent in sorted(found.timings_ms.items())},
        collections=[
            SearchedCollection(
                name=answer.collection,
                mode="exact" if MODE_NAMES[answer.found.mode] == "exact" else "lsh",
                candidates=answer.found.candidates,
                collection_size=answer.found.collection_size,
                generation=answer.found.generation,
                index_fault=answer.found.index_fault or None,
                windows=answer.found.windows,
            )
            for answer in found.answers
        ],
        left_out=[
            SkippedCollectionAnswer(name=left.collection, reason=_REASONS[left.reason], detail=left.detail)
            for left in found.skipped
        ],
    )
