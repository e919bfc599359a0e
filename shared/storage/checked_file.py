"""A file that somebody may change while it is uploaded: it ends only as what it was when its digest was taken."""

import hashlib
from typing import BinaryIO


class CheckedFile:
    """The next bytes of a file, of which the last are handed out only if all have a digest."""

    def __init__(self, file: BinaryIO, size: int, digest: str) -> None:
        """Hand out so many bytes; raises `OSError` if there are to be none, but the digest is that of some."""
        self._file, self._left, self._digest, self._found = file, size, digest, hashlib.sha256()
        self.failure: OSError | None = None
        if not size:
            self._check()

    def read(self, size: int) -> bytes:
        """Return the next bytes, of which there have to be so many.

        Raises:
            OSError: It cannot be read, or has other bytes.
        """
        try:
            data = self._file.read(min(size, self._left))
            self._found.update(data)
            self._left -= len(data)
            if not data or not self._left:
                self._check()
        except OSError as error:
            self.failure = error
            raise
        return data

    def _check(self) -> None:
        if self._left or self._found.hexdigest() != self._digest:
            raise OSError("it changed while it was read; add it again")
