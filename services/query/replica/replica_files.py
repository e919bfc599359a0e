"""The folders of replicas on local disk: what is done with them when a collection was renamed, or dropped."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from services.query.replica.segment_files import KEPT, PART, remove_part

COPIES: Final = "*-????????"
"""What the folders of replicas are called."""


def link_files(folder: Path, earlier: Path) -> None:
    """Have the files of a collection that was renamed under its new name too, so that they are not fetched again.

    Files are replaced, never changed. If there is a folder of the new name, nothing is done: another process may have
    made it.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    for file in earlier.glob("*.arrow"):
        with suppress(OSError):  # replaced at this moment, or a file system without links
            (folder / file.name).hardlink_to(file)


def clear_away(copies: Collection[Path], followed: Collection[Path]) -> None:
    """Remove the files of collections that were dropped while no query service ran.

    Args:
        copies: The folders that were there before the collections were listed: later ones are of other processes.
        followed: The folders of the collections.
    """
    for copy in set(copies) - set(followed):
        for file in [file for file in copy.glob("*") if file.suffix in KEPT]:
            if file.suffix == PART:
                remove_part(file)
            else:
                file.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: it is no replica of ours
            copy.rmdir()
