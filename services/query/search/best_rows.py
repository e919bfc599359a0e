"""Which rows may be among the best of a query, of those seen so far, by numbers that are off by a known error."""

import numpy as np

from services.query.replica.id_index import Bools
from services.query.replica.mapped_segment import Ids, Rows, Vectors

_NEAR = 64  # rows looked at for each image wanted, before all are: enough for most images to be among them


class BestRows:
    """The rows that may be among the `k` closest to a query; `images` are None."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._closeness = self._error = np.empty(0, dtype=np.float32)
        self._least = -np.inf  # the k-th best is at least as close
        self.rows: Rows = np.empty(0, dtype=np.int64)
        self.images: Ids | None = None

    def add(self, rows: Rows, closeness: Vectors, error: Vectors, images: Ids | None = None) -> None:
        """Add rows, how close they are to the query, what that may be off by, and the ids of their images: all [n]."""
        # Not `>=`, which is false where single precision overflowed: such rows are ranked again too.
        possible = np.flatnonzero(~(closeness + error < self._least))
        if not len(possible):
            return
        if not len(self.rows):
            self.rows, self._closeness, self._error = rows[possible], closeness[possible], error[possible]
            self.images = None if images is None else images[possible]
        else:
            self.rows = np.concatenate([self.rows, rows[possible]])
            self._closeness = np.concatenate([self._closeness, closeness[possible]])
            self._error = np.concatenate([self._error, error[possible]])
            if images is not None:
                before = images[:0] if self.images is None else self.images
                self.images = np.concatenate([before, images[possible]])
        if len(self.rows) > self._k:
            self._reduce()

    def _reduce(self) -> None:
        """Keep the rows that may be among the best."""
        self._least = _k_th(self._closeness - self._error, self._k)
        self._keep(~(self._closeness + self._error < self._least))

    def _keep(self, kept: Bools) -> None:
        self.rows, self._closeness, self._error = self.rows[kept], self._closeness[kept], self._error[kept]
        self.images = None if self.images is None else self.images[kept]


class BestImages(BestRows):
    """The rows that may be the closest of their image, with the image among the `k` closest to a query."""

    def _reduce(self) -> None:
        if self.images is None:
            return
        if len(self.rows) > _NEAR * self._k:  # what is surely too far away need not be grouped
            surely = self._closeness - self._error
            near = np.argpartition(surely, -_NEAR * self._k)[-_NEAR * self._k :]
            self._raise(_best_of_images(self.images[near], surely[near])[0])
            self._keep(~(self._closeness + self._error < self._least))
        best, image_of = _best_of_images(self.images, self._closeness - self._error)
        self._raise(best)
        reach = self._closeness + self._error
        self._keep(~(reach < best[image_of]) & ~(reach < self._least))

    def _raise(self, best: Vectors) -> None:
        """Note that there are images which are at least so close."""
        if len(best) >= self._k:
            self._least = max(self._least, _k_th(best, self._k))


def _k_th(values: Vectors, k: int) -> float:
    """Return the k-th largest of at least k values."""
    last = len(values) - k
    return float(np.partition(values, last)[last])


def _best_of_images(images: Ids, values: Vectors) -> tuple[Vectors, Rows]:
    """Return the largest value of each image, and which of these belongs to each row."""
    distinct, image_of = np.unique(images, return_inverse=True)
    best = np.full(len(distinct), -np.inf, dtype=np.float32)
    np.maximum.at(best, image_of, values)
    return best, image_of
