"""The trash of a collection: images that were deleted from it and can be restored."""

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.index.restoring import TrashPage
from shared.schemas.images import DocumentAnswer, ImageFields
from shared.schemas.urls import trash_url
from shared.storage.trash import TrashEntry
from shared.timestamps import rfc3339

_DAY_S = 24 * 3600.0


class TrashedImageAnswer(ImageFields):
    """An image in the trash: what the collection knew of it, when it was deleted, and when it will be gone for good.

    Of an image whose segment could not be read, only the digest is known: the rest is empty or 0.
    """

    deleted: str
    expires: str
    thumbnail: str


class TrashAnswer(TypedDict):
    """A part of a collection's trash, the latest deleted first; `total` are there."""

    images: list[TrashedImageAnswer]
    total: int
    limit: int
    offset: int


class RestorationAnswer(TypedDict):
    """An image on its way back: the job that adds it."""

    job: str
    url: str


def trash_answer(collection: str, page: TrashPage, *, limit: int, offset: int, days: float) -> TrashAnswer:
    """Return a part of a trash, whose images last `days` days."""
    images = [_trashed(collection, entry, days) for entry in page.entries]
    return TrashAnswer(images=images, total=page.total, limit=limit, offset=offset)


def _document(entry: TrashEntry) -> DocumentAnswer | None:
    page = entry.document
    return DocumentAnswer(id=page.id, page=page.page, pages=page.pages) if page else None


def _trashed(collection: str, entry: TrashEntry, days: float) -> TrashedImageAnswer:
    return TrashedImageAnswer(
        id=entry.id,
        collection=collection,
        name=entry.name,
        label=entry.label,
        digest=entry.digest,
        size=entry.size,
        media_type=entry.media_type,
        width=entry.width,
        height=entry.height,
        added=rfc3339(entry.added),
        flags=list(entry.flags),
        document=_document(entry),
        deleted=rfc3339(entry.deleted),
        expires=rfc3339(entry.deleted + days * _DAY_S),
        thumbnail=trash_url(collection, entry.id, "/thumbnail"),
    )
