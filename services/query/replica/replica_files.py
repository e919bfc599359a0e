"""The folders of replicas on local disk: what is done with them when a collection was renamed, or dropped."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

COPIES: Final = "*-????????"
"""What the folders of replicas are called."""


def link_files(folder: Path, earlier: Path) -> None:
    """Have the files of a collection that was renamed under its new name too, so that they are not fetched again.

    Files are replaced, never changed. If there is a folder of the new name, nothing is done.
    """
    if folder.exists():
        return
    folder.mkdir(parents=True)
    for file in earlier.glob("*.arrow"):
        with suppress(OSError):  # replaced at this moment, or a file system without links
            (folder / file.name).hardlink_to(file)


def clear_away(folder: Path, followed: Collection[Path]) -> None:
    """Remove the files of collections that were dropped while no query service ran: those in no folder followed."""
    for copy in set(folder.glob(COPIES)) - set(followed):
        for file in (*copy.glob("*.arrow"), *copy.glob("*.lengths"), *copy.glob("*.part")):
            file.unlink()
        with suppress(OSError):  # not empty: it is no replica of ours
            copy.rmdir()
