"""Paths of images: where files with their content lie."""

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.records.paths import KnownPath
from shared.rpc.query import Image
from shared.schemas.images import record_of


class PathAnswer(TypedDict):
    """A path of an image: the folder that it lies below, whether the file is there, and the label that it gives."""

    source: str
    path: str
    state: str
    label: str | None


class ImagePathsAnswer(TypedDict):
    """An image with all its paths.

    `page_of`: the digest of the document that it is a page of, behind the first; else null.
    """

    id: int
    digest: str
    name: str
    labels: list[str]
    paths: list[PathAnswer]
    page_of: str | None


class PathsAnswer(TypedDict):
    """A part of a collection's images with their paths, the latest added first; `total` are there."""

    images: list[ImagePathsAnswer]
    total: int
    limit: int
    offset: int


class NotedPathsAnswer(TypedDict):
    """Of how many images paths were noted."""

    images: int


def image_paths_answer(image: Image) -> ImagePathsAnswer:
    """Return an image with its paths."""
    known = [KnownPath(**path) for path in record_of(image)["paths"]]
    return ImagePathsAnswer(
        id=image.id,
        digest=image.digest,
        name=image.name,
        labels=list(image.labels),
        paths=[PathAnswer(source=path.source, path=path.path, state=path.state, label=path.label) for path in known],
        page_of=page_of(image),
    )


def page_of(image: Image) -> str | None:
    """Return the digest of the document that an image is a page of, behind the first; None: it is none."""
    return image.document.digest if image.document.page > 1 else None
