"""Prints what became of an ingestion."""

from collections.abc import Mapping

from rich.table import Table

from cli.printing.console import out, plain
from services.producer.ingest import IngestAnswer


def print_summary(values: IngestAnswer) -> None:
    """Print what was rejected, what was added by class, and the totals."""
    if values["rejected"]:
        table = Table("rejected", "why", title_justify="left")
        for item in values["rejected"]:
            table.add_row(plain(item["file"]), plain(item["reason"]))
        out.print(table)
    if values["classes"]:
        table = Table("class", "added")
        for label, count in values["classes"].items():
            table.add_row(plain(label), str(count))
        if values["unlabelled"]:
            table.add_row("[dim]no label[/]", str(values["unlabelled"]))
        out.print(table)
    if values["relabelled"]:
        out.print(f"{values['relabelled']} of the duplicates have a new label.")
    if values["labels_kept"]:
        out.print(f"{values['labels_kept']} of the duplicates have another label, which they keep (--keep-labels).")
    if values["damaged"]:
        table = Table("damaged", title_justify="left")
        for name in values["damaged"]:
            table.add_row(plain(name))
        out.print(table)
        out.print("These were added, but a part of each file was lost before: look at them, and copy them again.")
    if values["state"] == "cancelled":
        out.print("The job was cancelled: what was added stays, the rest was not added.")
    print_skipped(values["skipped"])
    out.print(
        f"{values['files']} files: {values['added']} added, {values['duplicates']} duplicates, "
        f"{len(values['rejected'])} rejected; {values['images_per_second']:.1f} images/s"
    )
    if values["restored"]:
        out.print(f"The originals of {values['restored']} duplicates were missing: they are stored again.")


def print_skipped(skipped: Mapping[str, int]) -> None:
    """Print how many files of which kind were passed over."""
    if skipped:
        kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.items())
        out.print(f"{sum(skipped.values())} passed over: {kinds}", markup=False)
