"""The result of a search."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.proof.findings import Proof
from shared.rpc.query import METRIC_NAMES, MODE_NAMES, Hit, SearchResponse
from shared.schemas.images import DocumentAnswer, FieldValue, document_answer, record_of
from shared.schemas.proof import ProofAnswer, proof_answer
from shared.schemas.urls import image_url


class BoxAnswer(TypedDict):
    """A part of an image, in pixels of the upright original: left, top, width and height."""

    x: int
    y: int
    w: int
    h: int


class HitAnswer(TypedDict):
    """An image found. `score` is the cosine similarity, or 1 / (1 + distance) for the Euclidean metric.

    `region` is there where a part of the image is more like the query than the whole, whose score it then is.
    `flags` and `document` are those of the image, `fields` the fields of its record that were asked for. `group` is
    there in a grouped search: the value that the hits of its group share, null where an image has none. `proof` is
    there where the search asked for it, of its first hits.
    """

    id: int
    score: float
    distance: float
    label: str | None
    labels: list[str]
    name: str
    flags: list[str]
    document: DocumentAnswer | None
    fields: dict[str, list[FieldValue]]
    region: NotRequired[BoxAnswer]
    group: NotRequired[str | None]
    proof: NotRequired[ProofAnswer]
    image: str
    thumbnail: str


class SearchAnswer(TypedDict):
    """The most similar images first, and how they were found: `candidates` were compared with the query one by one.

    Of an LSH search: the index's `generation`, the buckets that were looked into, how many of them hold more than is
    taken from one, and the images seen in them before filters and budget. `index_fault` says why the index was not
    asked although the mode allows it: Redis has lost a part of it, which is being rebuilt. `windows` of images were
    compared beside the images themselves, where the regions of the collection are indexed.
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
    index_fault: str | None
    windows: int


class SearchBatchAnswer(TypedDict):
    """The answers to the queries of a batch, in their order; the stages of each are those of the whole batch."""

    answers: list[SearchAnswer]


def search_answer(
    collection: str, found: SearchResponse, proofs: Mapping[int, Proof] = MappingProxyType({})
) -> SearchAnswer:
    """Return a search's result; `proofs` are those of some of its hits, by their ids."""
    return SearchAnswer(
        hits=[hit_answer(collection, hit, proofs.get(hit.image.id), grouped=found.grouped) for hit in found.hits],
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
        index_fault=found.index_fault or None,
        windows=found.windows,
    )


def hit_answer(collection: str, hit: Hit, proof: Proof | None = None, *, grouped: bool = False) -> HitAnswer:
    """Return a hit of a collection."""
    answer = HitAnswer(
        id=hit.image.id,
        score=hit.score,
        distance=hit.distance,
        label=hit.image.label or None,
        labels=list(hit.image.labels),
        name=hit.image.name,
        flags=list(hit.image.flags),
        document=document_answer(hit.image),
        fields=record_of(hit.image)["fields"],
        image=image_url(collection, hit.image.id, "/original"),
        thumbnail=image_url(collection, hit.image.id, "/thumbnail"),
    )
    if hit.HasField("region"):
        box = hit.region
        answer["region"] = BoxAnswer(x=box.x, y=box.y, w=box.width, h=box.height)
    if grouped:
        answer["group"] = hit.group if hit.HasField("group") else None
    if proof is not None:
        answer["proof"] = proof_answer(proof)
    return answer
