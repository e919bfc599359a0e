"""Backups in a folder of this machine, or of one that is mounted here."""

import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from shared.backup.target import PART, TargetFile
from shared.errors import Invalid, NotFound

PARTS = "parts"


class FolderTarget:
    """Files in a folder, readable by their owner only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def __str__(self) -> str:
        return str(self._folder)

    def list(self, folder: str) -> Iterator[TargetFile]:
        """Yield the files in a folder and its subfolders; files in the making are none."""
        ahead = [self._folder / folder if folder else self._folder]
        while ahead:
            here = ahead.pop()
            try:
                entries = list(os.scandir(here))
            except FileNotFoundError:
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if Path(entry.path) != self._folder / PARTS:
                        ahead.append(Path(entry.path))
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # deleted since
                    continue
                name = Path(entry.path).relative_to(self._folder).as_posix()
                yield TargetFile(name, found.st_size, found.st_mtime)

    def read(self, name: str) -> Iterator[bytes]:
        """Yield a file's bytes, a part at a time."""
        try:
            with (self._folder / name).open("rb") as file:
                while data := file.read(PART):
                    yield data
        except FileNotFoundError:
            raise NotFound(f"there is no {name!r} in {self}") from None

    def write(self, name: str, file: BinaryIO, size: int) -> None:
        """Write a file whole; it is on disk when this returns."""
        path = self._folder / name
        part = self._folder / PARTS / secrets.token_hex(8)
        for folder in (part.parent, path.parent):
            _make(folder)
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                left = size
                while left and (data := file.read(min(PART, left))):
                    out.write(data)
                    left -= len(data)
                if left:
                    raise Invalid(f"{name!r} ended {left} bytes before its {size}")
                out.flush()
                os.fsync(out.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _flush(path.parent)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that do not exist are passed over."""
        folders = set()
        for name in names:
            path = self._folder / name
            path.unlink(missing_ok=True)
            folders.add(path.parent)
        for folder in folders:
            if folder.is_dir():
                _flush(folder)

    def clear_parts(self) -> None:
        """Delete what writers that died have left; nobody may write meanwhile."""
        for part in (self._folder / PARTS).glob("*"):
            part.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    """Make a folder that outlives a crash of the machine."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _flush(folder.parent)


def _flush(folder: Path) -> None:
    """Write the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
