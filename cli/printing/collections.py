"""Prints the collections."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table

from cli.printing.console import out, plain
from shared.rpc.query import Collection


def print_collections(collections: Sequence[Collection]) -> None:
    """Print a table of the collections, and a line for each that is being changed, is damaged or cannot be read."""
    if not collections:
        out.print("No collections yet. Add images with `artseek ingest FOLDER`.")
        return
    table = Table("collection", "images", "labelled", "classes", "model", "created")
    for collection in collections:
        classes = ", ".join(f"{label} {count}" for label, count in sorted(collection.classes.items()))
        table.add_row(
            plain(collection.name),
            str(collection.images),
            str(collection.labelled),
            plain(classes),
            plain(f"{collection.model} {collection.model_version}"),
            datetime.fromtimestamp(collection.created, UTC).strftime("%Y-%m-%d %H:%M"),
        )
    out.print(table)
    for collection in collections:
        if collection.HasField("change"):
            change = collection.change
            out.print(
                f"{collection.name}: changing to {plain(change.model)} version {change.model_version}, "
                f"{change.images} of {collection.images} images are embedded"
            )
        if collection.fault:
            out.print(f"{collection.name}: {plain(collection.fault)}", style="red")
        if collection.index_fault:
            out.print(f"{collection.name}: scanned exactly until the index is rebuilt: {plain(collection.index_fault)}")
        if collection.damaged:
            damaged = plain(", ".join(collection.damaged))
            out.print(f"{collection.name}: left out, since damaged or missing: {damaged}", style="red")
