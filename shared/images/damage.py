"""Finds what a copy that broke off leaves in a file: blocks of zeros where no encoder writes them.

Source of JPEG's tables: ITU-T T.81, annex C: the first code of a Huffman table is all zeros.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from shared.images.contract import File
from shared.images.splicing import KEPT, Passage

_HOLE = bytes(512)  # a block of a disk
_PADDING = 8  # bytes of a row's last pixel and padding, which may be zeros in a sound one
_PIECE = 1 << 16
_LEAST_TAIL = 4096  # bytes of zeros at the end of pixels that are stored as they are


def has_hole(data: File, start: int, stop: int) -> bool:
    """Whether coded samples, in `data[start:stop]`, hold a disk's block of zeros."""
    return any_has_hole(data, [(start, stop)])


def any_has_hole(data: File, places: Iterable[tuple[int, int]]) -> bool:
    """Whether coded samples in one of these places of a file hold a disk's block of zeros."""
    passage = Passage(data)
    for start, stop in places:
        for begin in range(start, stop, KEPT):
            end = min(stop, begin + KEPT)
            if data.find(_HOLE, begin, min(stop, end + len(_HOLE) - 1)) >= 0:
                return True
            passage.note(end - begin)
    return False


def ends_in_zeros(data: File, start: int, stop: int, row: int) -> bool:
    """Whether pixels that are stored as they are, in rows of so many bytes, break off: the rest is zeros.

    What is dark at its end is no damage: where a copy broke off, the row before goes on.
    """
    stop = min(stop, len(data))
    if stop - start < _LEAST_TAIL or data[stop - _LEAST_TAIL : stop].strip(b"\0"):
        return False
    high = stop - _LEAST_TAIL  # zeros begin before it
    while high > start:
        begin = max(start, high - _PIECE)
        piece = data[begin:high].rstrip(b"\0")
        if piece:
            end = begin + len(piece)
            rest = -(end - start) % row  # bytes that the row goes on for
            before = data[max(start, end - row) : end - row + rest]
            return len(before) >= _PADDING and before.count(b"\0") < len(before) // 2
        high = begin
    return False


class Holes(ABC):
    """Finds holes in the scans of a JPEG, one scan after the other."""

    def __init__(self, tables: Iterable[bytes]) -> None:
        """Take the bodies of the DHT segments before the first scan."""
        self._first: dict[int, int] = {}  # the symbol whose code is all zeros, by class and number of the table
        self.found = False
        for body in tables:
            self.define(body)

    def define(self, body: bytes) -> None:
        """Take the body of a DHT segment."""
        position = 0
        while position + 17 < len(body):
            self._first[body[position]] = body[position + 17]
            position += 17 + sum(body[position + 1 : position + 17])

    def look(self, data: File, scan: bytes, start: int, stop: int) -> None:
        """Look for a hole in a scan, whose samples are `data[start:stop]`, by the body of its SOS segment."""
        self.found = self.found or (self._tells(scan) and has_hole(data, start, stop))

    @abstractmethod
    def _tells(self, scan: bytes) -> bool:
        """Return whether no encoder writes blocks of zeros into a scan."""


class SequentialHoles(Holes):
    """Finds holes in the scans of a JPEG that is not progressive."""

    def _tells(self, scan: bytes) -> bool:  # noqa: ARG002 -- all tables count
        # Zeros are what an encoder writes for a single shade if the first code of each table says "nothing".
        return any(self._first.values())


class ProgressiveHoles(Holes):
    """Finds holes in the scans of a progressive JPEG.

    Of a scan that refines what others began, nothing can be told: each of its bits may be zero in a sound file.
    """

    def _tells(self, scan: bytes) -> bool:
        count = scan[0] if scan else 0
        if len(scan) < 4 + 2 * count or scan[-1] >> 4:
            return False
        numbers = scan[2 : 2 + 2 * count : 2]
        if scan[-3]:  # of shades, a symbol without bits behind it says "nothing", also many times over
            return any(self._first.get(0x10 | number & 15, 0) & 15 for number in numbers)
        return any(self._first.get(number >> 4, 0) for number in numbers)
