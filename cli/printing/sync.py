"""Prints what became of the files of a folder that a collection is kept in step with."""

from rich.table import Table

from cli.printing.console import out, plain
from cli.printing.ingest import print_skipped
from services.producer.sync.run import SyncAnswer

_LISTED = 20  # files of an outcome


def print_outcome(values: SyncAnswer) -> None:
    """Print the files of each outcome but the usual ones, and the counts."""
    files = values["files"]
    if values["rejected"]:
        table = Table("rejected", "why", title_justify="left")
        for item in files["rejected"]:
            table.add_row(plain(item["file"]), plain(item["reason"]))
        out.print(table)
    _print_some("new", files["new"])
    _print_some("changed", files["changed"])
    _print_some("moved", [f"{file['before']} → {file['after']}" for file in files["moved"]])
    _print_some("vanished", files["vanished"])
    print_skipped(values["skipped_kinds"])
    if values["unreachable"]:
        out.print(f"{values['unreachable']} known files lie in folders that cannot be read: they stay as they are")
    parts = [f"{values[name]} {name}" for name in ("new", "changed", "moved", "vanished", "unchanged")]
    parts += [f"{values[name]} {name}" for name in ("skipped", "rejected", "embedded")]
    parts += [f"{values[name]} {name}" for name in ("relabelled", "trashed") if values[name]]
    out.print(f"{'would be: ' if values['dry_run'] else ''}{', '.join(parts)}; {values['seconds']:.1f} s")


def _print_some(outcome: str, names: list[str]) -> None:
    for name in names[:_LISTED]:
        out.print(f"{outcome:>9}  {plain(name)}")
    if len(names) > _LISTED:
        out.print(f"{outcome:>9}  and {len(names) - _LISTED} more; --json lists them")
