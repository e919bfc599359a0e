"""A view of a collection: all its rows at one moment, which a request takes once and works on."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.query.replica.id_index import Bools, IdIndex, distinct
from services.query.replica.mapped_segment import Ids, MappedSegment, Rows, Vectors


@dataclass(frozen=True)
class Counts:
    """Sizes of a collection: images, images of each class (unlabelled ones are in none), bytes of the originals."""

    images: int
    classes: Counter[str]
    bytes: int


@dataclass(frozen=True)
class Filter:
    """Which images may be found: those with one of the labels, with one of the ids, and chosen; None: any.

    `chosen` returns the live rows of a view that are, ascending.
    """

    labels: frozenset[str] | None = None
    among: Ids | None = None
    chosen: "Callable[[View], Rows] | None" = None


@dataclass(frozen=True, eq=False)
class View:
    """Immutable. Rows are numbered through all segments: row r of the segment at `starts[p]` is `starts[p]` + r.

    Between segments there may be numbers of rows that are gone. Of the rows with an image's id, at most one is live.

    Attributes:
        mapped_segments: In the order of their rows.
        starts: The number of each segment's first row, int64 [segments].
        ids: The id of each row, int64 [n]; likewise `norms` and `squares`, float32, and `labels`, int32.
        live: Which rows count, bool [n].
        names: What the numbers in `labels` stand for; 0 is no label.
        per_label: Live rows by label, int64 [names].
        bytes: Bytes of the originals of all live rows.
    """

    mapped_segments: tuple[MappedSegment, ...]
    starts: Rows
    ids: Ids
    norms: Vectors
    squares: Vectors
    labels: npt.NDArray[np.int32]
    live: Bools
    id_index: IdIndex
    names: tuple[str, ...]
    per_label: npt.NDArray[np.int64]
    images: int
    bytes: int

    @cached_property
    def counts(self) -> Counts:
        """The sizes of the collection."""
        sizes = zip(self.names[1:], self.per_label[1:].tolist(), strict=True)
        return Counts(self.images, Counter({label: count for label, count in sizes if count}), self.bytes)

    def find(self, ids: Ids) -> Rows:
        """Return the live row of each id, -1 where there is none: int64 [n]."""
        return self.id_index.find(ids, self.ids, self.live)

    def row(self, image_id: int) -> int | None:
        """Return the row of an image, None if there is no such image."""
        row = self.id_index.find_one(image_id, self.ids, self.live)
        return None if row < 0 else row

    def place(self, row: int) -> tuple[MappedSegment, int]:
        """Return the segment of a row, and which of its rows it is."""
        at = bisect_right(self.starts, row) - 1
        return self.mapped_segments[at], row - int(self.starts[at])

    def parts(self, rows: Rows) -> Iterator[tuple[MappedSegment, slice, Rows]]:
        """Split ascending rows by segments: yields a segment, the part of `rows` in it, and their places in it."""
        if len(self.starts) == 1 and len(rows):
            yield self.mapped_segments[0], slice(0, len(rows)), rows - self.starts[0]
            return
        cuts = np.append(np.searchsorted(rows, self.starts), len(rows))
        for at in np.flatnonzero(np.diff(cuts)).tolist():
            part = slice(int(cuts[at]), int(cuts[at + 1]))
            yield self.mapped_segments[at], part, rows[part] - self.starts[at]

    # Listing

    def latest(self, *, limit: int, offset: int, label: str) -> tuple[int, Rows]:
        """Return how many images there are (of a class, if `label` names one), and a page of rows, the latest first."""
        row_filter = RowFilter(self, Filter(labels=frozenset({label}) if label else None))
        rows = self._of_latest_segments(row_filter, offset + limit)
        return row_filter.size, self.latest_of(rows, limit=limit, offset=offset)

    def _of_latest_segments(self, row_filter: "RowFilter", count: int) -> Rows:
        """Return ascending rows that pass, so many of the latest added among them, of as few segments as hold these."""
        order = sorted(range(len(self.mapped_segments)), key=lambda at: -self.mapped_segments[at].last_added)
        found, added = [np.empty(0, dtype=np.int64)], [np.empty(0)]
        taken, step = 0, 1
        while taken < len(order):
            for at in order[taken : taken + step]:
                segment, start = self.mapped_segments[at], int(self.starts[at])
                rows = start + np.flatnonzero(self.live[start : start + len(segment)])
                rows = rows[row_filter.passing(rows)]
                found.append(rows)
                added.append(segment.added[rows - start])
            taken += step
            step *= 2  # so that the rows are not counted for each segment where many overlap in time
            # Of rows that were added when the last of the next segment was, either may come first.
            later = self.mapped_segments[order[taken]].last_added if taken < len(order) else -np.inf
            if sum(np.count_nonzero(times > later) for times in added) >= count:
                break
        return np.sort(np.concatenate(found))

    def latest_of(self, rows: Rows, *, limit: int, offset: int) -> Rows:
        """Return a page of ascending rows, the latest added first."""
        added = np.concatenate([np.empty(0), *(mapped.added[local] for mapped, _, local in self.parts(rows))])
        last = len(rows) - (offset + limit)
        if last > 0:  # only those that are on this page or before it need be sorted
            near = np.flatnonzero(added >= np.partition(added, last)[last])
            order = near[np.lexsort((self.ids[rows[near]], -added[near]))]
        else:
            order = np.lexsort((self.ids[rows], -added))
        return rows[order[offset : offset + limit]]


def spread(rows: Rows, *, limit: int, places: int) -> Rows:
    """Return at most `limit` of ascending rows, from evenly spaced places among them, the last rows first."""
    each = limit // places
    starts = np.linspace(0, max(0, len(rows) - each), places).astype(np.int64)
    chosen = np.unique(starts[:, np.newaxis] + np.arange(each))
    return rows[::-1][chosen[chosen < len(rows)]]


class RowFilter:
    """A filter as it applies to the rows of a view."""

    def __init__(self, view: View, criteria: Filter) -> None:
        self.view = view
        self._criteria = criteria
        self._among: Rows | None = None
        self._labels: Bools | None = None  # whether a label is wanted, by its number
        most = view.images
        if criteria.labels is not None:
            self._labels = np.array([name in criteria.labels for name in view.names], dtype=np.bool_)
            most = int(view.per_label[self._labels].sum())
        if criteria.among is not None:
            found = view.find(criteria.among)
            self._among = distinct(found[found >= 0])
            most = min(most, len(self._among))
        if criteria.chosen is not None:
            chosen = criteria.chosen(view)
            self._among = chosen if self._among is None else np.intersect1d(self._among, chosen, assume_unique=True)
            most = min(most, len(self._among))
        self.size = most  # images that pass, at most
        self.passes_all = self._among is None and self._labels is None

    def of(self, view: View) -> "RowFilter":
        """Return the same filter for another view."""
        return self if view is self.view else RowFilter(view, self._criteria)

    def rows(self) -> Rows:
        """Return the live rows that pass, ascending: int64."""
        rows = np.flatnonzero(self.view.live) if self._among is None else self._among
        return rows if self._labels is None else rows[self._labels[self.view.labels[rows]]]

    def images_of(self, rows: Rows) -> Ids | None:  # noqa: ARG002 -- as a `WindowFilter` has it
        """Return None: the ids of rows are those of their images."""
        return None

    def passing(self, rows: Rows) -> Bools:
        """Return which of these live rows pass, bool [n]; -1, which is no row, does not."""
        passing = rows >= 0
        if self._among is not None:
            among = np.append(self._among, -2)  # which is not asked for
            passing &= among[np.searchsorted(self._among, rows)] == rows
        if self._labels is not None:
            kept = np.flatnonzero(passing)
            passing[kept] = self._labels[self.view.labels[rows[kept]]]
        return passing
