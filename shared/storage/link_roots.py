"""The folders below which originals may stay where their owner has them, and the only way to open files there.

Whoever can write below such a folder could put a link there that leads elsewhere. So a file is opened component by
component from the folder on, none of which may be a symbolic link, and is read from what was opened.
"""

import os
import stat
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Final

from shared.errors import Invalid

SETTING: Final = "ARTSEEK_LINK_ROOTS"
_WALKED: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe does not wait


class LinkRoots:
    """Folders of files that are read in their place; none: no file is."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        """Take absolute paths."""
        self._folders = tuple(folders)

    @classmethod
    def parse(cls, text: str) -> "LinkRoots":
        """Return the folders that a setting names, separated as those of PATH are.

        Raises:
            ValueError: One is no absolute path, or is the root of the file system.
        """
        folders = [Path(os.path.normpath(part)) for part in text.split(os.pathsep) if part.strip()]
        for folder in folders:
            if not folder.is_absolute() or folder == Path(folder.anchor):
                raise ValueError(
                    f"expected absolute paths of folders with {os.pathsep!r} between them: {str(folder)!r}"
                )
        return cls(folders)

    def __bool__(self) -> bool:
        return bool(self._folders)

    def admitted(self, path: Path) -> Path:
        """Return where a file or folder lies, without symbolic links.

        Raises:
            Invalid: That is not below any of the folders.
        """
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(root) for root in self._real_folders()):
            raise Invalid(f"{_text(path)} lies below none of the folders of {SETTING}: {self._named()}")
        return real

    def open(self, path: Path) -> BufferedReader:
        """Open a file for reading by the path that `admitted` gave; none of its components may be a link by now.

        Raises:
            Invalid: It is not below any of the folders.
            OSError: It is not there, cannot be read, or is no plain file; a component of its path is a link.
        """
        root = next((root for root in self._real_folders() if path.is_relative_to(root)), None)
        parts = () if root is None else path.relative_to(root).parts
        if root is None or not parts or ".." in parts:
            raise Invalid(f"{_text(path)} lies below none of the folders of {SETTING}: {self._named()}")
        folder = os.open(root, _WALKED)
        try:
            for part in parts[:-1]:
                inner = os.open(part, _WALKED, dir_fd=folder)
                os.close(folder)
                folder = inner
            file = os.open(parts[-1], _READ, dir_fd=folder)
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(f"{_text(path)} is no plain file")
        return os.fdopen(file, "rb")

    def _real_folders(self) -> list[Path]:
        return [Path(os.path.realpath(folder)) for folder in self._folders]

    def _named(self) -> str:
        return ", ".join(map(_text, self._folders)) if self._folders else "it is not set"


def _text(path: Path) -> str:
    return repr(os.fsencode(path).decode("utf-8", "replace"))
