"""Records of images: an image with its record, facets, and what an import did."""

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.records.importing import Import, Unmatched
from shared.rpc.query import Image
from shared.schemas.images import FieldValue, ImageAnswer, image_answer, paths_of, record_of

_LISTED = 1000  # rows that an answer lists


class ImageRecordAnswer(ImageAnswer):
    """An image with its record: the values of each field that count, and those that others say instead.

    `paths` are those of all files with its content, `vanished_paths` of files that were there and are not any more.
    """

    alternatives: dict[str, list[FieldValue]]
    paths: list[str]
    vanished_paths: list[str]


class FacetValueAnswer(TypedDict):
    """How many images have a value."""

    value: str
    count: int


class FacetsAnswer(TypedDict):
    """How many images have which value of each field, the most frequent first; the types of all fields there are."""

    facets: dict[str, list[FacetValueAnswer]]
    types: dict[str, str]
    total: int


class UnmatchedAnswer(TypedDict):
    """A row that was left out: its number, the value of its key, and why."""

    row: int
    key: str
    reason: str


class RecordImportAnswer(TypedDict):
    """What an import of records stored, or would with `dry_run`, and what of the file it left out.

    `searchable` tells whether searches, filters and facets know of it yet. Of many rows that were left out, the first
    thousand are listed; `unmatched_rows` and `refused_rows` count all.
    """

    rows: int
    matched: int
    images: int
    unmatched_rows: int
    unmatched: list[UnmatchedAnswer]
    refused_rows: int
    refused: list[UnmatchedAnswer]
    unmatched_columns: dict[str, str]
    new_fields: dict[str, str]
    dry_run: bool
    searchable: bool


class RecordsChangedAnswer(TypedDict):
    """How many images have other records now."""

    images: int


def image_record_answer(collection: str, image: Image) -> ImageRecordAnswer:
    """Return an image with its record."""
    record = record_of(image)
    paths, vanished = paths_of(image)
    return ImageRecordAnswer(
        **image_answer(collection, image),
        alternatives=record["alternatives"],
        paths=paths,
        vanished_paths=vanished,
    )


def import_answer(planned: Import, *, dry_run: bool, searchable: bool) -> RecordImportAnswer:
    """Return what an import did."""
    return RecordImportAnswer(
        rows=planned.rows,
        matched=planned.matched,
        images=len(planned.changes),
        unmatched_rows=len(planned.unmatched),
        unmatched=[_row(row) for row in planned.unmatched[:_LISTED]],
        refused_rows=len(planned.refused),
        refused=[_row(row) for row in planned.refused[:_LISTED]],
        unmatched_columns=dict(planned.ignored),
        new_fields=dict(planned.types),
        dry_run=dry_run,
        searchable=searchable,
    )


def _row(unmatched: Unmatched) -> UnmatchedAnswer:
    return UnmatchedAnswer(row=unmatched.row, key=unmatched.key, reason=unmatched.reason)
