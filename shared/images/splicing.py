"""Reads chosen ranges of a file, and bytes put between them, as if they were one file; a large one is not copied."""

import bisect
import io
import mmap
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO, cast

from shared.images.contract import File

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# A range [start, stop) of the original file, or bytes that take the place of something in it.
Part = tuple[int, int] | bytes

KEPT = 32 << 20
"""Bytes of a mapped file that stay in memory."""

_SMALL = 1 << 20  # bytes that are sooner copied than read piece by piece


def spliced(data: File, parts: Sequence[Part]) -> BinaryIO:
    """A readable, seekable file of the parts of `data`, one after another."""
    file = _Spliced(data, parts)
    if len(data) <= _SMALL:
        return io.BytesIO(b"".join(file.views))
    return cast("BinaryIO", io.BufferedReader(file, 1 << 16))


class Passage:
    """Goes through a file: of one that is mapped, not more than `KEPT` bytes are in the memory of this process."""

    def __init__(self, data: File) -> None:
        self._mapped = data if isinstance(data, mmap.mmap) else None
        self._read = 0

    def note(self, size: int) -> None:
        """Note that so many more bytes were read."""
        self._read += size
        if self._mapped is not None and self._read > KEPT:
            self._mapped.madvise(mmap.MADV_DONTNEED)
            self._read = 0


class _Spliced(io.RawIOBase):
    def __init__(self, data: File, parts: Sequence[Part]) -> None:
        view = memoryview(data)
        self.views = [memoryview(part) if isinstance(part, bytes) else view[slice(*part)] for part in parts]
        self._passage = Passage(data)
        self._ends = list(accumulate(len(part) for part in self.views))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        if base + offset < 0:
            msg = f"seek to {base + offset}: expected 0 or more"
            raise ValueError(msg)
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer).cast("B")
        done = 0
        index = bisect.bisect_right(self._ends, self._position)
        while done < len(target) and index < len(self.views):
            view = self.views[index]
            start = self._position - (self._ends[index] - len(view))
            piece = view[start : start + len(target) - done]
            target[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
            index += 1
        self._passage.note(done)
        return done
