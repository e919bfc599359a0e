"""Prints what became of an ingestion."""

from rich.table import Table

from cli.printing.console import out, plain
from services.producer.ingest import Summary


def print_summary(summary: Summary) -> None:
    """Print what was rejected, what was added by class, and the totals."""
    values = summary.to_json()
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
    out.print(
        f"{values['files']} files: {values['added']} added, {values['duplicates']} duplicates, "
        f"{len(values['rejected'])} rejected; {values['images_per_second']:.1f} images/s"
    )
