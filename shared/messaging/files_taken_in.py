"""Files as the intake takes them: in memory, a part at a time, or linked."""

from pathlib import Path

from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.storage.original_files import FoundLink, OriginalFiles

_HEAD = 5  # the first bytes that are kept


class SmallFile:
    """A file in memory."""

    def __init__(self, data: bytes) -> None:
        """Take the bytes."""
        self._data, self.size, self.digest = data, len(data), layout.digest_of(data)
        self.head = data[:_HEAD]

    def store(self, store: ObjectStore, key: str) -> None:
        """Store the file."""
        store.put(key, self._data)


class LargeFile:
    """A file that is read a part at a time."""

    def __init__(self, path: Path) -> None:
        """Read a file; raises `OSError` if it cannot be read."""
        self._path, self.size, self.digest = path, path.stat().st_size, layout.digest_of_file(path)
        with path.open("rb") as file:
            self.head = file.read(_HEAD)

    def store(self, store: ObjectStore, key: str) -> None:
        """Store the file; raises `OSError` if it is another one by now."""
        with self._path.open("rb") as file:
            store.upload_checked(key, file, self.size, self.digest)


class LinkedFile:
    """A file that stays where it is."""

    def __init__(self, store: ObjectStore, path: Path) -> None:
        """Read a file.

        Raises:
            Invalid: It lies below no folder whose files may be linked.
            OSError: It cannot be read.
        """
        self._found = FoundLink(store, path, head=_HEAD)
        self.size, self.digest, self.head = self._found.size, self._found.digest, self._found.head

    def store(self, store: ObjectStore, key: str) -> None:  # noqa: ARG002 -- what is stored is a link
        """Store a link to the file."""
        OriginalFiles(store).link_file(self._found)


File = SmallFile | LargeFile | LinkedFile
"""A file that is handed in: its size in bytes, its SHA-256, its first bytes, and how it is stored."""
