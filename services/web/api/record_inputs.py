"""What requests about records may say."""

from typing import Annotated, Any, Literal

from pydantic import Field

from services.web.api.inputs import (
    READ_FLAG,
    READ_INTEGER,
    ImageIds,
    Input,
    Label,
    RecordField,
    RecordFilterText,
    RecordText,
)


class FacetListing(Input):
    """Which facets to count."""

    filter: RecordFilterText = ""
    text: RecordText = ""
    field: list[RecordField] = Field(
        default_factory=list, max_length=50, description="Fields to count; none: those that suit."
    )
    limit: Annotated[int, Field(ge=1, le=10_000, description="Values of a field."), READ_INTEGER] = 20


class RecordChanges(Input):
    """What is to be changed of a record, as JSON Merge Patch has it: null takes away, what is not named stays."""

    labels: Annotated[list[Label] | None, Field(max_length=100, description="All labels; null: none.")] = None
    fields: dict[str, Any] = Field(
        default_factory=dict,
        max_length=500,
        description="By field: a value, a list of values, or null. A value is a text, a number, or an object with "
        "`value` and `lang`.",
        examples=[{"creator": ["Rembrandt van Rijn"], "date": None}],
    )


class ManyRecordChanges(RecordChanges):
    """What is to be changed of the records of many images."""

    ids: ImageIds


class RecordImport(Input):
    """How to import a table of records."""

    key: Annotated[Literal["filename", "identifier", "id"], Field(description="By what rows are matched.")]
    column: Annotated[
        str, Field(max_length=200, description="Column with the key; empty: the one that is named for it.")
    ] = ""
    dry_run: Annotated[bool, Field(description="Whether only to tell what would be done."), READ_FLAG] = False


ExportFormat = Annotated[Literal["csv", "jsonl", "parquet", "vectors", "npy"], Field(description="Kind of file.")]


class RecordExport(Input):
    """Which images to export, and how."""

    format: ExportFormat = "csv"
    filter: RecordFilterText = ""
    text: RecordText = ""
