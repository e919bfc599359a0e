"""Paths of a collection's images: which there are, and what a folder that is kept in step says of them."""

from typing import Annotated

from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web.access import of_path
from services.web.access.auditing import note_images
from services.web.api.inputs import MAX_IDS, READ_INTEGER, CollectionPath, Input, Label, checked
from services.web.api.openapi import Answer, Body, flat_schema
from services.web.api.operations import api, json_body, reply
from services.web.clients import web_clients
from shared.records.editing import note_paths
from shared.records.paths import KnownPath, PathState
from shared.records.record_store import RecordStore
from shared.schemas.paths import NotedPathsAnswer, PathsAnswer, image_paths_answer
from shared.storage.layout import image_id

_LONGEST = 32_768  # characters of a path

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the file, in hexadecimal digits.")]
_Path = Annotated[str, Field(min_length=1, max_length=_LONGEST, pattern=r"^[^\x00]*$")]


class PathListing(Input):
    """Which images to list."""

    limit: Annotated[int, Field(ge=1, le=1000, description="Number of images."), READ_INTEGER] = 1000
    offset: Annotated[int, Field(ge=0, le=2**53 - 1, description="Number of images to pass over."), READ_INTEGER] = 0


class NotedPath(Input):
    """A path of a file, by its content."""

    digest: _Digest
    path: Annotated[_Path, Field(description="Path below the folder.")]
    state: Annotated[PathState, Field(description="`gone`: it moved, or has other content now.")]
    label: Annotated[Label | None, Field(description="The label that the path gives.")] = None


class FolderLabels(Input):
    """The labels that the folders of an image give it."""

    digest: _Digest
    labels: Annotated[list[Label], Field(max_length=500)]


class NotedPaths(Input):
    """What is to be noted of the files of a folder."""

    source: Annotated[str, Field(max_length=_LONGEST, pattern=r"^[^\x00]*$", description="The folder.")]
    paths: Annotated[list[NotedPath], Field(max_length=MAX_IDS)]
    labels: list[FolderLabels] = Field(default_factory=list, max_length=MAX_IDS)


@api.operation(
    "GET",
    "/collections/{name}/paths",
    rule=of_path("change"),  # folders are those of the machine that keeps them in step, nobody else's business
    path_model=CollectionPath,
    query_model=PathListing,
    answers={200: Answer("A part of the images.", PathsAnswer)},
    problems=(404, 503),
)
def list_paths(path: CollectionPath, query: PathListing) -> ResponseReturnValue:
    """List the images of a collection with the paths of their files, those that vanished among them."""
    found = web_clients().query.images(path.name, limit=query.limit, offset=query.offset, records=True)
    images = [image_paths_answer(image) for image in found.images]
    return reply(PathsAnswer(images=images, total=found.total, limit=query.limit, offset=query.offset))


@api.operation(
    "POST",
    "/collections/{name}/paths",
    rule=of_path("change"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(NotedPaths))},
    answers={200: Answer("They are noted.", NotedPathsAnswer)},
    problems=(400, 404, 413, 415, 503),
)
def note_image_paths(path: CollectionPath) -> ResponseReturnValue:
    """Note where files with the content of images lie, in one step; `artseek sync` does.

    Labels of folders count where neither an edit nor a table says anything of labels.
    """
    given = checked(NotedPaths, json_body(), "body", texts=False)
    noted: dict[int, list[KnownPath]] = {}
    for noted_path in given.paths:
        known = KnownPath(given.source, noted_path.path, noted_path.state, noted_path.label)
        noted.setdefault(image_id(noted_path.digest), []).append(known)
    labels = {image_id(image.digest): image.labels for image in given.labels}
    clients = web_clients()
    note_images(sorted({*noted, *labels}))
    records = RecordStore(clients.store, clients.state.record_changes)
    note_paths(records, clients.query, path.name, noted, labels=labels)
    return reply(NotedPathsAnswer(images=len({*noted, *labels})))
