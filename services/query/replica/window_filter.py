"""Which windows of images may be found: those of images that pass a filter."""

from weakref import WeakKeyDictionary, ref

import numpy as np

from services.query.replica.id_index import Bools
from services.query.replica.mapped_segment import Ids, Rows
from services.query.replica.view import RowFilter, View
from shared.windows import MOST_WINDOWS


class WindowFilter:
    """A filter of images as it applies to a view whose rows are windows of them.

    A window counts if its image is live, and passes, in the view of the images at the moment that the search takes it.
    """

    passes_all = False  # by the images that one search takes; another may know of fewer

    def __init__(self, view: View, images: RowFilter) -> None:
        self.view = view
        self.images = images
        self.size = min(view.images, images.size * MOST_WINDOWS)  # windows that pass, at most

    def of(self, view: View) -> "WindowFilter":
        """Return the same filter for another view of the windows."""
        return self if view is self.view else WindowFilter(view, self.images)

    def rows(self) -> Rows:
        """Return the live rows that pass, ascending: int64."""
        rows = np.flatnonzero(self.view.live)
        return rows[self.passing(rows)]

    def passing(self, rows: Rows) -> Bools:
        """Return which of these live rows pass, bool [n]; -1, which is no row, does not."""
        passing = rows >= 0
        kept = np.flatnonzero(passing)
        passing[kept] = self.images.passing(self.images.view.find(self.images_of(rows[kept])))
        return passing

    def images_of(self, rows: Rows) -> Ids:
        """Return the id of the image of each row, int64 [n]."""
        return images_of(self.view, rows)


def images_of(view: View, rows: Rows) -> Ids:
    """Return the ids of the images that rows are windows of, int64 [n]."""
    images = np.empty(len(rows), dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    for segment, part, local in view.parts(rows[order]):
        images[order[part]] = segment.image_ids[local]
    return images


class WindowCounts:
    """Counts images that have windows, and their windows; what was counted last of a view of windows is kept.

    It is kept as long as others hold the view: a view keeps files on disk that are deleted.
    """

    def __init__(self) -> None:
        self._counted: WeakKeyDictionary[View, tuple[ref[View], tuple[int, int]]] = WeakKeyDictionary()

    def of(self, windows: View, images: View) -> tuple[int, int]:
        """Return how many live images of a view have live windows, and how many windows these are."""
        kept = self._counted.get(windows)
        if kept is None or kept[0]() is not images:
            ids, counts = np.unique(images_of(windows, np.flatnonzero(windows.live)), return_counts=True)
            found = images.find(ids) >= 0
            kept = ref(images), (int(found.sum()), int(counts[found].sum()))
            self._counted[windows] = kept
        return kept[1]
