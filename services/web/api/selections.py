"""Images that somebody chose by hand, named by their ids: what they are, their export, their originals."""

from collections.abc import Sequence
from typing import Annotated

from flask import Response
from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web.access import of_path
from services.web.api.inputs import CollectionPath, ImageId, ImageIds, Input, checked
from services.web.api.openapi import Answer, Body, flat_schema
from services.web.api.operations import api, json_body, reply
from services.web.api.record_inputs import ExportFormat
from services.web.clients import web_clients
from services.web.originals_archive import zip_of
from shared.records.editing import named_images
from shared.records.exporting import EXTENSIONS, MEDIA_TYPES, Format, export
from shared.schemas.images import NamedImagesAnswer, image_answer
from shared.storage.original_files import OriginalFiles

MOST_LOOKED_UP = 1_000
ZIP_TYPE = "application/zip"


class LookUp(Input):
    """Which images to look up."""

    ids: Annotated[list[ImageId], Field(min_length=1, max_length=MOST_LOOKED_UP, description="Ids of the images.")]


class Selection(Input):
    """Which images are chosen."""

    ids: ImageIds


class SelectionExport(Selection):
    """Which images to export, and how."""

    format: ExportFormat = "csv"


@api.operation(
    "POST",
    "/collections/{name}/lookup",
    rule=of_path("look"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(LookUp))},
    answers={200: Answer("Those that are there.", NamedImagesAnswer)},
    problems=(404, 503),
)
def look_up_images(path: CollectionPath) -> ResponseReturnValue:
    """Tell what the collection knows of some images, and which of them it does not have."""
    wanted = checked(LookUp, json_body(), "body", texts=False)
    query = web_clients().query
    query.collection(path.name)
    images = [image_answer(path.name, image) for image in named_images(query, path.name, wanted.ids)]
    gone = dict.fromkeys(wanted.ids)
    for image in images:
        del gone[image["id"]]
    return reply(NamedImagesAnswer(images=images, gone=list(gone)))


@api.operation(
    "POST",
    "/collections/{name}/export",
    rule=of_path("look"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(SelectionExport))},
    answers={200: Answer("The file.", bytes, media_types=tuple(sorted(set(MEDIA_TYPES.values()))))},
    problems=(404, 503),
)
def export_images(path: CollectionPath) -> ResponseReturnValue:
    """Export some images, as a whole collection is exported; ids that the collection does not have are left out."""
    wanted = checked(SelectionExport, json_body(), "body", texts=False)
    return exported(path.name, wanted.ids, wanted.format)


@api.operation(
    "POST",
    "/collections/{name}/originals",
    rule=of_path("originals"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(Selection))},
    answers={200: Answer("The archive.", bytes, media_types=(ZIP_TYPE,))},
    problems=(404, 503),
)
def get_originals(path: CollectionPath) -> ResponseReturnValue:
    """Return the originals of some images as one ZIP file.

    Those that the collection does not have are left out; those whose files cannot be had are named in a text file.
    """
    return archived(path.name, checked(Selection, json_body(), "body", texts=False).ids)


def exported(collection: str, ids: Sequence[int], kind: Format) -> Response:
    """Return the answer with an export of images.

    Raises:
        NotFound: There is no such collection.
    """
    clients = web_clients()
    parts = export(clients, clients.query, collection, kind, ids=ids)
    return attached(Response(parts, mimetype=MEDIA_TYPES[kind]), f"{collection}-selection{EXTENSIONS[kind]}")


def archived(collection: str, ids: Sequence[int]) -> Response:
    """Return the answer with the originals of images as a ZIP file.

    Raises:
        NotFound: There is no such collection.
    """
    clients = web_clients()
    clients.query.collection(collection)
    parts = zip_of(OriginalFiles(clients.store), named_images(clients.query, collection, ids))
    return attached(Response(parts, mimetype=ZIP_TYPE), f"{collection}-originals.zip")


def attached(response: Response, name: str) -> Response:
    """Have a response saved as a file of a name."""
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
