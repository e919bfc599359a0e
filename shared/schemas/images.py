"""Images of a collection, and what becomes of an upload or a deletion."""

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.rpc.query import Image
from shared.schemas.jobs import Refusal
from shared.schemas.urls import image_url
from shared.timestamps import rfc3339


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
