"""Images of a collection, and what becomes of an upload or a deletion."""

import json
from typing import Any

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.records.model import number_text
from shared.records.paths import KnownPath, all_paths, paths_in_state
from shared.rpc.query import Image
from shared.schemas.refusals import Refusal
from shared.schemas.urls import image_url
from shared.timestamps import rfc3339


class DocumentAnswer(TypedDict):
    """Which page an image is, from 1, and of how many; `id` is that of the first page."""

    id: int
    page: int
    pages: int


class FieldValue(TypedDict):
    """A value of a field, the language of a text, and where the value came from."""

    value: str | float
    lang: str | None
    origin: str


def value_text(value: str | float) -> str:
    """Return a value of a field as it is written: 12, not 12.0."""
    return value if isinstance(value, str) else number_text(value)


class ImageFields(TypedDict):
    """What every view of an image has, in the collection or in its trash.

    `flags`: `damaged` is an image of which a part was lost before it was taken, so that some of its pixels are wrong.
    An image alone has `link-changed` or `link-missing` too, if its original is linked and its file is not what it was.
    `document`: which page it is, of a file of several; else null.
    """

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
    flags: list[str]
    document: DocumentAnswer | None


class ImageAnswer(ImageFields):
    """What a collection knows of an image. Times are RFC 3339, sizes bytes and pixels; `label` is the first of all.

    `fields` are those of its record that were asked for.
    """

    labels: list[str]
    fields: dict[str, list[FieldValue]]
    image: str
    preview: str
    thumbnail: str


class ImagesAnswer(TypedDict):
    """A part of a collection's images, the latest added first; `total` are there."""

    images: list[ImageAnswer]
    total: int
    limit: int
    offset: int


class NamedImagesAnswer(TypedDict):
    """The images that were asked for by their ids, in that order; `gone` are ids that the collection does not have."""

    images: list[ImageAnswer]
    gone: list[int]


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


def document_answer(image: Image) -> DocumentAnswer | None:
    """Return which page of a document an image is; None if it is none of several."""
    page = image.document
    return DocumentAnswer(id=page.id, page=page.page, pages=page.pages) if page.pages else None


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
        labels=list(image.labels),
        fields=record_of(image)["fields"],
        flags=list(image.flags),
        document=document_answer(image),
        image=image_url(collection, image.id, "/original"),
        preview=image_url(collection, image.id, "/preview"),
        thumbnail=image_url(collection, image.id, "/thumbnail"),
    )


def record_of(image: Image) -> dict[str, Any]:
    """Return the record that an image of the query service came with."""
    record: dict[str, Any] = json.loads(image.record) if image.record else {}
    return {"fields": {}, "alternatives": {}, "paths": [], "stamp": 0, **record}


def paths_of(image: Image) -> tuple[list[str], list[str]]:
    """Return the paths of files with an image's content, and those of files that have vanished."""
    known = [KnownPath(**path) for path in record_of(image)["paths"]]
    return all_paths(image.name, known), paths_in_state(known, "vanished")
