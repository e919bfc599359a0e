"""Records of a collection's images: edit them, count their values, import and export them."""

from collections.abc import Sequence

from flask import Response, request
from flask.typing import ResponseReturnValue

from services.web.access import of_path
from services.web.access.auditing import note_images
from services.web.api.inputs import CollectionPath, ImagePath, checked, read_json
from services.web.api.openapi import BINARY, Answer, Body, flat_schema
from services.web.api.operations import api, reply
from services.web.api.record_inputs import (
    FacetListing,
    ManyRecordChanges,
    RecordChanges,
    RecordExport,
    RecordImport,
)
from services.web.clients import WebClients, web_clients
from services.web.problems import Problem
from shared.errors import Invalid
from shared.records.editing import edit, import_table
from shared.records.exporting import EXTENSIONS, MEDIA_TYPES, export
from shared.records.record_store import RecordStore
from shared.schemas.records import (
    FacetsAnswer,
    FacetValueAnswer,
    ImageRecordAnswer,
    RecordImportAnswer,
    RecordsChangedAnswer,
    image_record_answer,
    import_answer,
)

_JSON_TYPES = ("application/json", "application/merge-patch+json")
_MAX_EDIT = 4 * 2**20  # bytes
_TABLE_MEMORY = 128 * 2**20  # bytes that the rows of an import may take: two of them at a time find no room
_PATIENCE_S = 20.0  # that the answer to an import waits until searches know of it


@api.operation(
    "PATCH",
    "/collections/{name}/images/{id}",
    rule=of_path("change"),
    path_model=ImagePath,
    bodies={media: Body(flat_schema(RecordChanges)) for media in _JSON_TYPES},
    answers={200: Answer("The image with its record.", ImageRecordAnswer)},
    problems=(400, 404, 413, 415, 503),
)
def edit_image(path: ImagePath) -> ResponseReturnValue:
    """Edit the record of an image, by JSON Merge Patch.

    An edit counts more than what a CSV file or the image file says; null hides that too.
    """
    clients = web_clients()
    changes = checked(RecordChanges, _body(), "body", texts=False)
    note_images([path.id])
    edit_records(clients, path.name, [path.id], changes)
    return reply(image_record_answer(path.name, clients.query.image(path.name, path.id)))


@api.operation(
    "PATCH",
    "/collections/{name}/images",
    rule=of_path("change"),
    path_model=CollectionPath,
    bodies={media: Body(flat_schema(ManyRecordChanges)) for media in _JSON_TYPES},
    answers={200: Answer("All of them have it.", RecordsChangedAnswer)},
    problems=(400, 404, 413, 415, 503),
)
def edit_images(path: CollectionPath) -> ResponseReturnValue:
    """Edit the records of many images in one step, by JSON Merge Patch."""
    changes = checked(ManyRecordChanges, _body(), "body", texts=False)
    note_images(changes.ids)
    return reply(RecordsChangedAnswer(images=edit_records(web_clients(), path.name, changes.ids, changes)))


@api.operation(
    "GET",
    "/collections/{name}/facets",
    rule=of_path("look"),
    path_model=CollectionPath,
    query_model=FacetListing,
    answers={200: Answer("The counts.", FacetsAnswer)},
    problems=(404, 503),
)
def count_facets(path: CollectionPath, query: FacetListing) -> ResponseReturnValue:
    """Count how many images have which values, of those that pass a filter."""
    found = web_clients().query.facets(
        path.name, filter=query.filter, text=query.text, fields=query.field, limit=query.limit
    )
    facets = {
        facet.field: [FacetValueAnswer(value=value.value, count=value.count) for value in facet.values]
        for facet in found.facets
    }
    return reply(FacetsAnswer(facets=facets, types=dict(found.types), total=found.total))


@api.operation(
    "POST",
    "/collections/{name}/records",
    rule=of_path("change"),
    path_model=CollectionPath,
    query_model=RecordImport,
    bodies={media: Body(BINARY) for media in ("text/csv", "application/jsonl", "application/octet-stream")},
    answers={200: Answer("What was stored, and what was left out.", RecordImportAnswer)},
    problems=(404, 413, 415, 422, 503),
)
def import_records(path: CollectionPath, query: RecordImport) -> ResponseReturnValue:
    """Import a CSV file, or JSON lines, into the records of a collection, in one step.

    The header names the fields, perhaps with a type or language as in `height:number` or `title@de`; `|` separates
    several values. An empty cell takes away what an earlier import said. The answer waits until searches know of it,
    for at most 20 seconds. A larger table is imported in parts.
    """
    clients = web_clients()
    records = RecordStore(clients.store, clients.state.record_changes)
    with clients.memory.holding(_TABLE_MEMORY):
        try:
            planned, searchable = import_table(
                records,
                clients.query,
                path.name,
                request.get_data(cache=False),
                query.key,
                column=query.column,
                dry_run=query.dry_run,
                patience_s=_PATIENCE_S,
                most=_TABLE_MEMORY,
            )
        except Invalid as error:
            raise Problem(422, "invalid", str(error)) from error
    return reply(import_answer(planned, dry_run=query.dry_run, searchable=searchable))


@api.operation(
    "GET",
    "/collections/{name}/export",
    rule=of_path("look"),
    path_model=CollectionPath,
    query_model=RecordExport,
    answers={200: Answer("The file.", bytes, media_types=tuple(sorted(set(MEDIA_TYPES.values()))))},
    problems=(404, 503),
)
def export_records(path: CollectionPath, query: RecordExport) -> ResponseReturnValue:
    """Export images and records as CSV for spreadsheets, JSON lines or Parquet, or their vectors as Parquet or `.npy`.

    The rows of the `.npy` file come in the order of the ids.
    """
    clients = web_clients()
    parts = export(clients, clients.query, path.name, query.format, filter=query.filter, text=query.text)
    response = Response(parts, mimetype=MEDIA_TYPES[query.format])
    response.headers["Content-Disposition"] = f'attachment; filename="{path.name}{EXTENSIONS[query.format]}"'
    return response


def edit_records(clients: WebClients, collection: str, ids: Sequence[int], changes: RecordChanges) -> int:
    """Store an edit of images; returns how many there are.

    Raises:
        Problem: A value does not fit.
    """
    labels = changes.labels or [] if "labels" in changes.model_fields_set else None
    records = RecordStore(clients.store, clients.state.record_changes)
    try:
        return edit(records, clients.query, collection, ids, labels=labels, fields=changes.fields)
    except Invalid as error:
        raise Problem(422, "invalid", str(error)) from error


def _body() -> dict[str, object]:
    request.max_content_length = _MAX_EDIT
    if request.mimetype not in _JSON_TYPES:
        raise Problem(415, "unsupported-media-type", f"{request.mimetype[:80]!r} is not taken: send JSON")
    return read_json(request.get_data())
