"""Folders of images: the files in them, the names that they are known by, and labels from subfolders."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Invalid


@dataclass(frozen=True)
class Source:
    """A file: where it is, the name it is known by, and its label if it has one."""

    path: Path
    name: str
    label: str | None


def walk(paths: Sequence[Path], *, labels_from_folders: bool) -> Iterator[Source]:
    """Yield the files at `paths`, folders in depth and in the order of their names; hidden ones are passed over.

    The name of a file in a folder is its path within it; its label, if asked for, the first folder of that path.

    Raises:
        Invalid: A path does not exist.
    """
    for root in paths:
        if root.is_dir():
            for path in _files(root):
                inner = path.relative_to(root)
                label = readable(inner.parts[0]) if labels_from_folders and len(inner.parts) > 1 else None
                yield Source(path, readable(inner.as_posix()), label)
        elif root.exists():
            label = readable(root.resolve().parent.name) if labels_from_folders else None
            yield Source(root, readable(root.name), label)
        else:
            raise Invalid(f"there is no file or folder {str(root)!r}")


def readable(name: str) -> str:
    """Return a file's name as text that can be written anywhere: bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():  # a link may lead back up
                yield from _files(path)
        else:
            yield path
