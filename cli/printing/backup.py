"""Prints backups: what was made, checked, listed and restored."""

from collections.abc import Sequence

from rich.filesize import decimal

from cli.printing.console import compact_table, out, plain
from shared.backup.backing_up import BackupResult
from shared.backup.checking import CheckResult
from shared.backup.cleaning import Cleaned
from shared.schemas.backups import RestoreAnswer, SnapshotAnswer

_SHOWN = 20


def print_backup(result: BackupResult, cleaned: Cleaned, target: str) -> None:
    """Print a backup that was made."""
    header = result.header
    out.print(
        f"{result.snapshot}: {len(header.collections)} collections, {header.images} originals, {result.models} models, "
        f"{decimal(result.bytes)}, of which {decimal(result.new_bytes)} are new in {plain(target)}"
    )
    if header.linked:
        out.print(f"{header.linked} originals are linked, and not in the backup: back up the folders that they are in")
    if cleaned.snapshots:
        out.print(f"{len(cleaned.snapshots)} older backups dropped, {decimal(cleaned.bytes)} freed")
    for key in header.damaged[:_SHOWN]:
        out.print(f"damaged in the system, and so in the backup: {plain(key)}", style="red")
    if len(header.damaged) > _SHOWN:
        out.print(f"… and {len(header.damaged) - _SHOWN} more", style="red")


def print_check(check: CheckResult) -> None:
    """Print what a check of all backups found."""
    whole = len(check.snapshots)
    out.print(f"{whole} backups are whole: {check.blobs} blobs, {decimal(check.bytes)} read")
    for name, reason in check.unreadable.items():
        out.print(f"{name} cannot be restored: {plain(reason)}", style="red")
    for blob in check.damaged[:_SHOWN]:
        out.print(f"{plain(blob.reason)}; in {', '.join(blob.snapshots)}", style="red")
    if len(check.damaged) > _SHOWN:
        out.print(f"… and {len(check.damaged) - _SHOWN} more", style="red")


def print_snapshots(snapshots: Sequence[SnapshotAnswer]) -> None:
    """Print a table of backups."""
    if not snapshots:
        out.print("No backup is complete yet.")
        return
    table = compact_table("id", "created", "collections", "originals", "size", "")
    for found in snapshots:
        table.add_row(
            found["snapshot"].partition("Z")[0],  # enough to name it by
            plain(found["created"][:16].replace("T", " ")),
            plain(", ".join(found["collections"])),
            str(found["images"]),
            decimal(found["bytes"]),
            plain(found["error"]) or ("with secrets" if found["with_secrets"] else ""),
        )
    out.print(table)


def print_restore(answer: RestoreAnswer) -> None:
    """Print what was restored."""
    out.print(f"{answer['snapshot']}: {answer['objects_copied']} objects copied")
    for name, images in answer["collections"].items():
        out.print(f"{plain(name)}: {images} images")
    if answer["linked"]:
        out.print(
            f"{answer['linked']} originals are linked, and were not in the backup: their files are read in their place",
            style="yellow",
        )
    for version in answer["models_written"]:
        out.print(f"the model {plain(version)} was written")
    for version in answer["models_different"]:
        out.print(f"the model {plain(version)} is there with other files than the backup's, and stays", style="yellow")
    for fault in answer["damaged"][:_SHOWN]:
        out.print(f"left out: {plain(fault)}", style="red")
    if len(answer["damaged"]) > _SHOWN:
        out.print(f"… and {len(answer['damaged']) - _SHOWN} more", style="red")
