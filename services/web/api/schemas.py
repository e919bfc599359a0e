"""What the API answers: typed dictionaries, which are also its documentation, made from the services' messages."""

from typing import Literal

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from services.web.problems import Refusal
from shared.rpc.query import METRIC_NAMES, MODE_NAMES, Collection, Image, SearchResponse
from shared.state import Job
from shared.state.jobs import Kind
from shared.timestamps import rfc3339

API = "/api/v1"


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


class ImageAnswer(TypedDict):
    """What a collection knows of an image. Times are RFC 3339, sizes bytes and pixels."""

    id: int
    collection: str
    name: str
    label: str | None
    digest: str
    size: int
    media_type: str
    width: int
    height: int
    added: str
    image: str
    thumbnail: str


class ImagesAnswer(TypedDict):
    """A part of a collection's images, the latest added first; `total` are there."""

    images: list[ImageAnswer]
    total: int
    limit: int
    offset: int


class ChangeAnswer(TypedDict):
    """A change of a collection to another model that is under way: how many images were embedded with it so far."""

    model: str
    model_version: int
    images: int


class CollectionAnswer(TypedDict):
    """A collection: how many images it has, how many of each class, and the model that embeds them.

    `damaged` names the segments that cannot be read or are missing: their images are left out. `change` is null unless
    the collection is being embedded with another model; until that is done, it answers by the one it has.
    """

    name: str
    images: int
    labelled: int
    classes: dict[str, int]
    bytes: int
    model: str
    model_version: int
    dim: int
    generation: int
    created: str
    damaged: list[str]
    change: ChangeAnswer | None


class CollectionsAnswer(TypedDict):
    """All collections, by name."""

    collections: list[CollectionAnswer]


class JobAnswer(TypedDict):
    """What became of a job: images handed in together, or work of another kind on a collection.

    `open`: more images may come; `running`: they are being worked off; `done`: each is accounted for; `cancelled`: it
    ended before. Of an evaluation, `total` and `finished` count searches; of a switch, images to embed.
    """

    id: str
    kind: Kind
    collection: str
    state: Literal["open", "running", "done", "cancelled"]
    created: str
    total: int
    finished: int
    added: int
    duplicates: int
    affected: int
    rejected: list[Refusal]
    classes: dict[str, int]


class UploadAnswer(TypedDict):
    """An upload that was taken: the job that works it off, and the files that were refused at once."""

    job: str
    url: str
    accepted: int
    rejected: list[Refusal]


class DeletionAnswer(TypedDict):
    """A deletion that takes its time: the job that does it."""

    job: str
    url: str


def image_url(collection: str, image: int, leaf: str = "") -> str:
    """Return the path of an image's entry, or of its ``/original`` or ``/thumbnail``."""
    return f"{API}/collections/{collection}/images/{image}{leaf}"


def job_url(job: str) -> str:
    """Return the path of a job."""
    return f"{API}/jobs/{job}"


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


def image_answer(collection: str, image: Image) -> ImageAnswer:
    """Return an image's entry."""
    return ImageAnswer(
        id=image.id,
        collection=collection,
        name=image.name,
        label=image.label or None,
        digest=image.digest,
        size=image.size,
        media_type=image.media_type,
        width=image.width,
        height=image.height,
        added=rfc3339(image.added),
        image=image_url(collection, image.id, "/original"),
        thumbnail=image_url(collection, image.id, "/thumbnail"),
    )


def collection_answer(collection: Collection) -> CollectionAnswer:
    """Return a collection, its classes by name."""
    return CollectionAnswer(
        name=collection.name,
        images=collection.images,
        labelled=collection.labelled,
        classes=dict(sorted(collection.classes.items())),
        bytes=collection.bytes,
        model=collection.model,
        model_version=collection.model_version,
        dim=collection.dim,
        generation=collection.generation,
        created=rfc3339(collection.created),
        damaged=list(collection.damaged),
        change=ChangeAnswer(
            model=collection.change.model,
            model_version=collection.change.model_version,
            images=collection.change.images,
        )
        if collection.HasField("change")
        else None,
    )


def job_answer(job: Job) -> JobAnswer:
    """Return a job as it stands."""
    return JobAnswer(
        id=job.id,
        kind=job.kind,
        collection=job.collection,
        state=("cancelled" if job.cancelled else "done") if job.done else "running" if job.closed else "open",
        created=rfc3339(job.created),
        total=job.total,
        finished=job.steps if job.kind in {"evaluate", "change-model"} else job.outcome.images,
        added=job.added,
        duplicates=job.outcome.duplicates,
        affected=job.outcome.affected,
        rejected=[Refusal(name=item.name, code=item.code, reason=item.reason) for item in job.outcome.rejected],
        classes={label: count for label, count in job.outcome.added.items() if label},
    )
