"""Folders of images: the files in them, the names that they are known by, and labels from subfolders."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import Invalid
from shared.passed_over import PassedOver, kind_of_file, kind_of_folder
from shared.unique_names import UniqueNames

_LONGEST_LABEL = 200  # characters: more are not taken


@dataclass(frozen=True)
class Source:
    """A file: where it is, the name it is known by, and its label if it has one.

    `problem`: it is a folder whose files could not be listed, and why.
    """

    path: Path
    name: str
    label: str | None
    problem: str | None = None


def walk(
    paths: Sequence[Path],
    *,
    labels_from_folders: bool,
    list_unreadable: bool = False,
    passed_over: PassedOver | None = None,
) -> Iterator[Source]:
    """Yield the files at `paths`, folders in depth and in the order of their names, without what is no image.

    The name of a file in a folder is its path within it; its label, if asked for, the first folder of that path. No two
    files have the same name: where a second path has a file of the same name, the name of the path goes before it, or a
    number follows. Names are composed (NFC): it does not matter which system has written an umlaut.

    A link to a file is that file, by the name of the link. Of links that lead to the same folder the first is followed,
    and none that leads back up.

    Args:
        paths: Folders and files; a file that is named is taken whatever its name.
        labels_from_folders: Whether files have labels.
        list_unreadable: Whether a folder that cannot be read is yielded, with its `problem`, and the rest is walked.
        passed_over: Gets the files that are passed over: hidden ones, junk, videos, sidecars.

    Raises:
        Invalid: A path does not exist.
        OSError: A folder cannot be read.
    """
    names = UniqueNames()
    passed = PassedOver() if passed_over is None else passed_over
    for place, root in enumerate(paths):
        if not os.path.lexists(root):
            raise Invalid(f"there is no file or folder {str(root)!r}")
        if not os.path.isdir(root):  # noqa: PTH112 -- which a `Path` may raise at
            parent = root.absolute().parent.resolve().name
            whole = composed(root.name)
            others = [composed(f"{parent}/{root.name}")] if place else []
            yield Source(root, names.take(whole, *others), _label(parent) if labels_from_folders else None)
            continue
        base = composed(Path(os.path.abspath(root)).name)  # noqa: PTH100 -- a link keeps its own name
        for path, problem in _Walk(root, passed).files():
            inner = path.relative_to(root)
            label = _label(inner.parts[0]) if labels_from_folders and len(inner.parts) > 1 else None
            whole = composed(inner.as_posix())
            if problem is None:
                yield Source(path, names.take(whole, *([f"{base}/{whole}"] if place else [])), label)
            elif list_unreadable:
                whole = f"{base}/" if path == root else f"{whole}/"
                yield Source(path, names.take(whole, f"{base}/{whole}"), None, problem.strerror or str(problem))
            else:
                raise problem


def readable(name: str) -> str:
    """Return a file's name as text that can be written anywhere: bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def composed(name: str) -> str:
    """Return a readable name in composed form (NFC), in which an umlaut is one character."""
    return unicodedata.normalize("NFC", readable(name))


def _label(folder: str) -> str | None:
    """Return the label that a folder gives: its name without control characters, at most 200 characters."""
    name = "".join(" " if unicodedata.category(char) == "Cc" else char for char in composed(folder))
    return name[:_LONGEST_LABEL].strip() or None


@dataclass(frozen=True)
class _Entry:
    """A file or folder that a walk comes to, and why it is passed over if it is."""

    path: Path
    is_folder: bool
    is_link: bool = False
    kind: str | None = None


@dataclass
class _Walk:
    """One walk through a folder."""

    root: Path
    passed: PassedOver
    followed: set[tuple[int, int]] = field(default_factory=set)  # device and inode of folders that links led to

    def files(self) -> Iterator[tuple[Path, OSError | None]]:
        """Yield the files below the folder, and the folders that cannot be read with their errors."""
        # What is still to be yielded, the next one last: however deep, no function calls itself.
        waiting = [_Entry(self.root, is_folder=True)]
        while waiting:
            entry = waiting.pop()
            kind = entry.kind
            if kind is None and entry.is_folder and entry.is_link and not self._is_to_follow(entry.path):
                kind = "link"
            if not entry.is_folder or (kind is not None and entry.is_link):
                if kind is None:
                    yield entry.path, None
                else:
                    self._pass_over(entry.path, kind)
                continue
            try:
                waiting += self._entries(entry.path, kind)
            except OSError as error:
                if kind is None:
                    yield entry.path, error

    def _entries(self, folder: Path, kind: str | None) -> list[_Entry]:
        """Return what lies in a folder, the last first; of a folder that is passed over, for what kind."""
        with os.scandir(folder) as entries:
            found = [(entry.name, _is_dir(entry), entry.is_symlink()) for entry in entries]
        return [
            _Entry(folder / name, is_dir, is_link, kind or (kind_of_folder(name) if is_dir else kind_of_file(name)))
            for name, is_dir, is_link in sorted(found, reverse=True)
        ]

    def _pass_over(self, path: Path, kind: str) -> None:
        self.passed.add(kind, composed(path.relative_to(self.root).as_posix()))

    def _is_to_follow(self, link: Path) -> bool:
        """Return whether a link to a folder is to be followed: it leads neither back up nor where another one led."""
        try:
            target = _identity(link)
            above = {_identity(folder) for folder in (link.parent, *link.parent.parents) if self._is_within(folder)}
        except OSError:
            return True  # its files cannot be listed either, and that is told
        if target in above or target in self.followed:
            return False
        self.followed.add(target)
        return True

    def _is_within(self, folder: Path) -> bool:
        return folder == self.root or self.root in folder.parents


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_dir(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere: reading it will tell
        return False
