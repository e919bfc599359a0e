"""`artseek records import` and `artseek export`: what is known of images, as files."""

from pathlib import Path
from typing import cast
from urllib.parse import urlencode

import click

from cli.clients import System
from cli.command import RemoteSystem, command_anywhere
from cli.options import SOME_REJECTED, as_json_option, in_collection
from cli.printing.console import out, print_error, print_json
from cli.printing.progress import spinner
from shared.records.editing import import_table
from shared.records.exporting import MEDIA_TYPES, Format, export
from shared.records.importing import KEYS, Key
from shared.records.record_store import RecordStore
from shared.schemas.records import RecordImportAnswer, import_answer

_PRINTED = 20  # rows that were left out
_PATIENCE_S = 900.0  # for searches to know of what was imported: a million rows take their time


@click.group()
def records() -> None:
    """Import what is known of the images of a collection."""


@records.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@in_collection
@click.option("--key", required=True, type=click.Choice(KEYS), help="By what rows are matched with images.")
@click.option("--column", default="", help="Column with the key; by default the one that is named for it.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@as_json_option
@command_anywhere
def import_records(
    system: System | RemoteSystem, *, file: Path, collection: str, key: Key, column: str, dry_run: bool, as_json: bool
) -> int:
    """Import FILE, CSV, JSON lines or Parquet: columns become fields, `|` separates several values of a cell.

    A column may name type and language, as in `height:number` and `title@de`. The same import again changes nothing; a
    newer one counts. An edit on a page counts more than an import.
    """
    data = file.read_bytes()
    with spinner("importing"):
        answer = _import(system, data, collection, key=key, column=column, dry_run=dry_run)
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    return SOME_REJECTED if answer["unmatched_rows"] or answer["refused_rows"] else 0


def _import(
    system: System | RemoteSystem, data: bytes, collection: str, *, key: Key, column: str, dry_run: bool
) -> RecordImportAnswer:
    if isinstance(system, RemoteSystem):
        options = urlencode({"key": key, "column": column, "dry_run": "true" if dry_run else "false"})
        path = f"/collections/{collection}/records?{options}"
        answer = system.api.request("POST", path, body=data, headers={"Content-Type": "application/octet-stream"})
        return cast("RecordImportAnswer", answer)
    if not dry_run:
        system.note_change("import records", collection)
    store = RecordStore(system.store, system.state.record_changes)
    with system.query() as query:
        planned, searchable = import_table(
            store, query, collection, data, key, column=column, dry_run=dry_run, patience_s=_PATIENCE_S
        )
    return import_answer(planned, dry_run=dry_run, searchable=searchable)


def _print(answer: RecordImportAnswer) -> None:
    done = "would change" if answer["dry_run"] else "imported"
    out.print(f"{answer['matched']:,} of {answer['rows']:,} rows matched: {done} {answer['images']:,} images")
    if not answer["dry_run"] and not answer["searchable"]:
        out.print("  searches do not know of it yet: the query service is still taking it over")
    for name, field_type in answer["new_fields"].items():
        out.print(f"  new field {name}: {field_type}", highlight=False, markup=False)
    for name, reason in answer["unmatched_columns"].items():
        out.print(f"  column {name} left out: {reason}", highlight=False, markup=False)
    for rows, count in ((answer["unmatched"], answer["unmatched_rows"]), (answer["refused"], answer["refused_rows"])):
        for row in rows[:_PRINTED]:
            print_error(f"row {row['row']}, {row['key']!r}: {row['reason']}")
        if count > _PRINTED:
            print_error(f"and {count - _PRINTED:,} more rows; --json lists them")


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@in_collection
@click.option(
    "--format", "kind", type=click.Choice(list(MEDIA_TYPES)), help="Kind of file; by default as its name ends."
)
@click.option("--filter", "wanted", default="", help='Only images with these values, JSON: {"creator": ["…"]}.')
@click.option("--text", default="", help="Only images whose records have all these words.")
@command_anywhere
def export_collection(
    system: System | RemoteSystem, *, file: Path, collection: str, kind: Format | None, wanted: str, text: str
) -> None:
    """Write the images of a collection with their records into FILE: .csv, .jsonl or .parquet.

    Or their embeddings: .vectors.parquet, or .npy, whose rows come in the order of the ids.
    """
    by_name = "vectors" if file.name.lower().endswith(".vectors.parquet") else file.suffix.lower().removeprefix(".")
    chosen = kind or cast("Format", by_name)
    if chosen not in MEDIA_TYPES:
        raise click.UsageError(f"{file.name} names no kind of file: give --format")
    part = file.with_name(file.name + ".part")
    try:
        with spinner("exporting"), part.open("wb") as target:
            if isinstance(system, RemoteSystem):
                options = urlencode({"format": chosen, "filter": wanted, "text": text})
                system.api.download(f"/collections/{collection}/export?{options}", target)
            else:
                with system.query() as query:
                    for piece in export(system, query, collection, chosen, filter=wanted, text=text):
                        target.write(piece)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)  # of an export that failed
    out.print(f"written to {file}", highlight=False, markup=False)
