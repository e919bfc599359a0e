"""Image ids for vectors that belong to no image: as large and as scattered as those of images."""

import hashlib

import numpy as np

from benchmarks.simulation import Rows
from shared.storage import layout


def digest_of(row: int) -> str:
    """Return the digest that stands for the image of a row."""
    return hashlib.sha256(b"%d" % row).hexdigest()


class ImageIds:
    """The ids of the first `count` rows, and the way back from ids to rows.

    Attributes:
        ids: The id of each row, int64 [count].
    """

    def __init__(self, count: int) -> None:
        self.ids: Rows = np.fromiter((layout.image_id(digest_of(row)) for row in range(count)), np.int64, count)
        self._order = np.argsort(self.ids, kind="stable")
        self._rising = self.ids[self._order]

    def rows(self, ids: Rows) -> Rows:
        """Return the rows of ids, int64 [n]."""
        places = np.minimum(np.searchsorted(self._rising, ids), len(self._rising) - 1)
        return np.asarray(self._order[places])
