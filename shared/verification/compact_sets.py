"""Ids of images, and sizes of originals by digest, in arrays: a verification holds those of all images at a time.

Python's sets and dictionaries would take ten times as much: gigabytes for ten million images.
"""

from collections.abc import Iterable
from itertools import islice

import numpy as np
import numpy.typing as npt

from shared.sorted_numbers import places_among
from shared.storage.segments import DIGEST_BYTES

Ids = npt.NDArray[np.int64]
Digests = npt.NDArray[np.bytes_]

DIGEST = np.dtype(f"S{DIGEST_BYTES}")
"""Of a digest in an array; numpy takes zeros at the end away from a single item, not from an array."""

_AT_ONCE = 100_000  # digests that are objects of Python at a time


class HeldImages:
    """The ids of images, which come some at a time."""

    def __init__(self) -> None:
        self._runs: list[Ids] = []  # ascending and distinct, each less than half as long as the one before

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, ids: Ids) -> None:
        """Add ids, [n]; some may be here already."""
        run = np.unique(ids)
        run = run[~self.have(run)]
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        if len(run):
            self._runs.append(run)

    def have(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Return which of some ids are here, [n]."""
        found = np.zeros(len(ids), dtype=np.bool_)
        for run in self._runs:
            found |= places_among(run, ids) >= 0
        return found


class OriginalSizes:
    """The sizes of originals in bytes by their digests, which come some at a time; of two of a digest, the later."""

    def __init__(self) -> None:
        self._digests: list[Digests] = []
        self._sizes: list[Ids] = []
        self._is_joined = False

    def add(self, digests: Digests, sizes: Ids) -> None:
        """Add originals, [n] each."""
        self._digests.append(digests)
        self._sizes.append(sizes)
        self._is_joined = False

    def add_each(self, originals: Iterable[tuple[bytes, int]]) -> None:
        """Add originals by their digests."""
        left = iter(originals)
        while some := list(islice(left, _AT_ONCE)):
            digests, sizes = zip(*some, strict=True)
            self.add(digest_array(digests), np.array(sizes, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.digests)

    def __contains__(self, digest: bytes) -> bool:
        return bool(self.sizes_of(digest_array([digest]))[0] >= 0)

    @property
    def digests(self) -> Digests:
        """All digests, ascending."""
        return self._joined()[0]

    @property
    def sizes(self) -> Ids:
        """The sizes of the originals, in the order of the digests."""
        return self._joined()[1]

    def sizes_of(self, digests: Digests) -> Ids:
        """Return the size of each of some originals, -1 where it is not here: int64 [n]."""
        held, sizes = self._joined()
        places = places_among(held, digests)
        return np.where(places < 0, -1, sizes[places]) if len(held) else places

    def _joined(self) -> tuple[Digests, Ids]:
        if not self._is_joined:
            digests = np.concatenate([np.empty(0, DIGEST), *self._digests])
            sizes = np.concatenate([np.empty(0, np.int64), *self._sizes])
            order = np.argsort(digests, kind="stable")
            digests, sizes = digests[order], sizes[order]
            last = np.ones(len(digests), dtype=np.bool_)
            last[:-1] = digests[1:] != digests[:-1]
            self._digests, self._sizes = [digests[last]], [sizes[last]]
            self._is_joined = True
        return self._digests[0], self._sizes[0]


def digest_array(digests: Iterable[bytes]) -> Digests:
    """Return digests as an array."""
    return np.frombuffer(b"".join(digests), dtype=DIGEST)


def hexadecimal(digests: Digests) -> list[str]:
    """Return digests as text."""
    text = np.ascontiguousarray(digests).tobytes().hex()
    return [text[start : start + 2 * DIGEST_BYTES] for start in range(0, len(text), 2 * DIGEST_BYTES)]
