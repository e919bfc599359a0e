"""The rows of a replica: segments come and go, rows are deleted, and each change gives readers a new view."""

from collections.abc import Collection, Container, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.query.replica.id_index import Bools, IdIndex, distinct
from services.query.replica.mapped_segment import Ids, MappedSegment, Rows, Vectors
from services.query.replica.view import View

_TALLIED = 2**20  # rows whose labels and sizes are added up at a time
_SMALLEST = 1024  # rows that there is room for at least
_LOOSE = 10_000  # row numbers that may stand for nothing before rows are numbered anew, or a quarter of all


class RowTable:
    """Changed by one thread at a time; `view` is taken by many without a lock and shows all of a change or nothing.

    A change costs what it changes, and a copied byte for each row. Columns are only ever written behind what a view
    shows of them.
    """

    def __init__(self) -> None:
        self._deleted: dict[
            str, set[int]
        ] = {}  # segment to ids of rows that were deleted, known before their segment or not
        self._names: dict[str, int] = {"": 0}
        self._shown_names: tuple[str, ...] = ()
        self._placed: list[tuple[MappedSegment, int]] = []  # each with the number of its first row
        self._count = 0
        self._start_anew([])

    @property
    def view(self) -> View:
        """The rows as they are now."""
        return self._view

    # Changes

    def swap(self, added: Sequence[MappedSegment], removed: Collection[MappedSegment] = ()) -> None:
        """Add segments and take others out, in one step."""
        if not added and not removed:
            return
        removed = set(removed)
        kept = [(mapped, start) for mapped, start in self._placed if mapped not in removed]
        numbered = self._count + sum(len(mapped) for mapped in added)
        rows = sum(len(mapped) for mapped, _ in kept) + sum(len(mapped) for mapped in added)
        if numbered - rows > max(_LOOSE, rows // 4):
            self._start_anew([mapped for mapped, _ in kept], added)
            return
        numbers = [np.arange(start, start + len(mapped)) for mapped, start in self._placed if mapped in removed]
        gone = np.concatenate([np.empty(0, np.int64), *numbers])
        self._alive[gone] = False
        self._placed = kept
        first = self._count
        self._make_room(numbered)
        for mapped in added:
            self._append(mapped, *mapped.lengths())
        if not first:
            self._publish_first()
            return
        ids = np.concatenate([self._ids[first : self._count], self._ids[gone]])
        self._publish(distinct(ids), gone)

    def add_tombstones(self, rows: Mapping[str, set[int]]) -> None:
        """Mark rows as deleted: ids by segment; a merged row may also be named by the segment that it came from."""
        fresh = {segment: ids - self._deleted.get(segment, set()) for segment, ids in rows.items()}
        for segment, ids in fresh.items():
            self._deleted.setdefault(segment, set()).update(ids)
        held = self._rows_of(distinct(np.array(list(set().union(*fresh.values())), dtype=np.int64)))
        gone = np.array([row for row in held.tolist() if self._is_deleted(*self._view.place(row))], dtype=np.int64)
        if len(gone):
            self._alive[gone] = False
            self._publish(distinct(self._ids[gone]), gone)

    def forget_tombstones(self, listed: Container[str]) -> None:
        """Forget the deletions from segments that are neither here, merged or not, nor listed as having some."""
        known = {name for mapped, _ in self._placed for name in (mapped.name, *mapped.inputs)}
        self._deleted = {
            segment: ids for segment, ids in self._deleted.items() if segment in known or segment in listed
        }

    def _start_anew(self, kept: Sequence[MappedSegment], added: Sequence[MappedSegment] = ()) -> None:
        """Number all rows anew, in new columns and a new id index: earlier views keep the old ones."""
        old = dict(self._placed)
        norms, squares = (self._norms, self._squares) if kept else (None, None)
        self._reserve(sum(len(mapped) for mapped in (*kept, *added)))
        self._id_index = IdIndex(self._room)
        self._placed = []
        self._count = 0
        self._live: Bools = np.zeros(0, dtype=np.bool_)
        self._images, self._bytes = 0, 0
        self._per_label = np.zeros(len(self._names), dtype=np.int64)
        for mapped in kept:
            if norms is not None and squares is not None:
                was = slice(old[mapped], old[mapped] + len(mapped))
                self._append(mapped, norms[was], squares[was])
        for mapped in added:
            self._append(mapped, *mapped.lengths())
        self._publish_first()

    def _reserve(self, rows: int) -> None:
        self._room = max(_SMALLEST, rows + rows // 4)
        self._ids: Ids = np.empty(self._room, dtype=np.int64)
        self._norms: Vectors = np.empty(self._room, dtype=np.float32)
        self._squares: Vectors = np.empty(self._room, dtype=np.float32)
        self._labels: npt.NDArray[np.int32] = np.empty(self._room, dtype=np.int32)
        self._sizes: Ids = np.empty(self._room, dtype=np.int64)
        # Rows neither deleted nor gone: an image may have several of them, of which one is live.
        self._alive: Bools = np.zeros(self._room, dtype=np.bool_)

    @property
    def _columns(self) -> list[npt.NDArray[Any]]:
        return [self._ids, self._norms, self._squares, self._labels, self._sizes, self._alive]

    def _make_room(self, rows: int) -> None:
        if rows <= self._room:
            return
        before = self._columns
        self._reserve(rows)
        for old, new in zip(before, self._columns, strict=True):
            new[: self._count] = old[: self._count]
        alive = np.flatnonzero(self._alive)
        self._id_index = IdIndex(self._room)
        self._id_index.insert(self._ids[alive], alive)

    def _append(self, mapped: MappedSegment, norms: Vectors, squares: Vectors) -> None:
        start, stop = self._count, self._count + len(mapped)
        self._ids[start:stop] = mapped.ids
        self._norms[start:stop] = norms
        self._squares[start:stop] = squares
        codes = [self._names.setdefault(label, len(self._names)) for label in mapped.labels]
        self._labels[start:stop] = np.array(codes, dtype=np.int32)[mapped.label_codes]
        self._sizes[start:stop] = mapped.sizes
        self._alive[start:stop] = ~self._deleted_in(mapped)
        self._placed.append((mapped, start))
        self._count = stop
        alive = start + np.flatnonzero(self._alive[start:stop])
        self._id_index.insert(self._ids[alive], alive)

    def _deleted_in(self, mapped: MappedSegment) -> Bools:
        """Return which rows of a segment are known to be deleted."""
        deleted = np.zeros(len(mapped), dtype=np.bool_)
        deletions = [self._deleted[name] for name in (mapped.name, *mapped.inputs) if name in self._deleted]
        ids = np.array(list(set().union(*deletions)), dtype=np.int64)
        for row in np.flatnonzero(np.isin(mapped.ids, ids)).tolist() if len(ids) else ():
            deleted[row] = self._is_deleted(mapped, row)
        return deleted

    def _is_deleted(self, mapped: MappedSegment, row: int) -> bool:
        image_id = int(mapped.ids[row])
        origin = mapped.origin(row)
        return image_id in self._deleted.get(mapped.name, ()) or (
            origin is not None and image_id in self._deleted.get(origin, ())
        )

    def _rows_of(self, ids: Ids) -> Rows:
        """Return the rows of these distinct images that are neither deleted nor gone."""
        rows = self._id_index.rows_of(ids, self._ids[: self._count])
        return rows[self._alive[rows]]

    def _publish_first(self) -> None:
        """Publish the view of a table of which none showed a row: nothing need be looked up if no image has two."""
        alive = np.flatnonzero(self._alive[: self._count])
        ids = distinct(self._ids[alive])
        if len(ids) < len(alive):
            self._publish(ids, alive[:0])
            return
        self._tally(alive[:0], alive)
        self._live = self._alive[: self._count].copy()
        self._show()

    def _publish(self, ids: Ids, gone: Rows) -> None:
        """Make the first row of each of these distinct images that is alive its live row, and publish the view."""
        live = np.zeros(self._count, dtype=np.bool_)
        live[: len(self._live)] = self._live
        rows = self._rows_of(ids)
        touched = np.concatenate([rows, gone])
        were = touched[live[touched]]
        live[touched] = False
        if len(rows):
            order = np.argsort(self._ids[rows])
            held = self._ids[rows[order]]
            first = np.flatnonzero(np.concatenate([[True], held[1:] != held[:-1]]))
            live[np.minimum.reduceat(rows[order], first)] = True
        are = touched[live[touched]]
        self._tally(were, are)
        self._live = live
        self._show()

    def _tally(self, were: Rows, are: Rows) -> None:
        """Bring the sizes up to date: the rows `were` were live, the rows `are` are live now."""
        labels = len(self._names)
        counted = np.zeros(labels, dtype=np.int64)
        counted[: len(self._per_label)] = self._per_label
        for all_rows, sign in ((were, -1), (are, 1)):
            for start in range(0, len(all_rows), _TALLIED):
                rows = all_rows[start : start + _TALLIED]
                counted += sign * np.bincount(self._labels[rows], minlength=labels)
                self._bytes += sign * int(self._sizes[rows].sum())
        self._per_label = counted
        self._images += len(are) - len(were)

    def _show(self) -> None:
        count = self._count
        if len(self._shown_names) != len(self._names):
            self._shown_names = tuple(self._names)
        self._view = View(
            mapped_segments=tuple(mapped for mapped, _ in self._placed),
            starts=np.array([start for _, start in self._placed], dtype=np.int64),
            ids=self._ids[:count],
            norms=self._norms[:count],
            squares=self._squares[:count],
            labels=self._labels[:count],
            live=self._live,
            id_index=self._id_index,
            names=self._shown_names,
            per_label=self._per_label,
            images=self._images,
            bytes=self._bytes,
        )
