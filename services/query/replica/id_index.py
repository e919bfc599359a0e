"""The id index of a replica: from an image's id to the rows that hold it."""

import numpy as np
import numpy.typing as npt

from services.query.replica.mapped_segment import Ids, Rows

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio (Knuth, vol. 3, 6.4): spreads ids that follow each other too
_ROOM = 4  # slots an entry: with so many, a look-up of thousands of ids is done after some ten steps
_SMALLEST = 2**10
_FEW = 16  # ids that are looked up faster one by one
_ALL_BITS = 2**64 - 1

Slots = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def distinct(values: Ids) -> Ids:
    """Return the distinct values, ascending: int64. By a sort, which takes a third of the time of numpy's `unique`."""
    values = np.sort(values)
    kept = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=kept[1:])
    return values[kept]


class IdIndex:
    """A hash table with triangular probing, read and written by a few numpy calls for thousands of ids at once.

    It holds rows only; their ids are in a column beside it. Rows are added and never taken out, so a reader that has
    a column of n rows finds in it what it found before, whatever was added since. An id may have many rows.
    """

    def __init__(self, rows: int) -> None:
        """Make room for so many rows."""
        self.capacity = rows
        size = _SMALLEST
        while size < _ROOM * rows:
            size *= 2
        self._table = np.full(size, -1, dtype=np.int32)  # -1: free
        self._shift = np.uint64(64 - (size.bit_length() - 1))
        self._mask = size - 1
        self.entries = 0

    def insert(self, ids: Ids, rows: Rows) -> None:
        """Add rows, and the ids that the column has for them; each row once. There must be room."""
        table, mask = self._table, self._mask
        left = rows.astype(np.int32)
        slots, step = self._slots(ids), 0
        while len(left):
            free = table[slots] < 0
            table[slots[free]] = left[free]
            beaten = table[slots] != left  # by what was there, or by another row of these
            step += 1
            left, slots = left[beaten], (slots[beaten] + step) & mask
        self.entries += len(rows)

    def find(self, ids: Ids, column: Ids, live: Bools) -> Rows:
        """Return the live row of each id, -1 where it has none: int64 [n].

        Args:
            ids: What is looked up, int64 [n].
            column: The id of each row.
            live: Which rows count, bool: of the rows of an id, at most one.
        """
        table, mask, count = self._table, self._mask, len(column)
        found = np.full(len(ids), -1, dtype=np.int64)
        if not count:
            return found
        places: Rows | None = None  # which of `ids` are still looked for; None: all
        slots, step = self._slots(ids), 0
        while len(ids) > _FEW:
            rows = table.take(slots)
            hits = column.take(rows, mode="clip") == ids
            hits &= live.take(rows, mode="clip")
            hits &= (rows >= 0) & (rows < count)
            where = np.flatnonzero(hits)
            found[where if places is None else places[where]] = rows[where]
            more = np.flatnonzero((rows >= 0) & ~hits)
            step += 1
            places = more if places is None else places[more]
            ids, slots = ids[more], (slots[more] + step) & mask
        for place, image_id, slot in zip(range(len(ids)), ids.tolist(), slots.tolist(), strict=True):
            found[place if places is None else places[place]] = self._row(image_id, slot, step, column, live)
        return found

    def find_one(self, image_id: int, column: Ids, live: Bools) -> int:
        """Return what `find` does for one id."""
        slot = (image_id * int(_MIX) & _ALL_BITS) >> int(self._shift)
        return self._row(image_id, slot, 0, column, live)

    def _row(self, image_id: int, slot: int, step: int, column: Ids, live: Bools) -> int:
        """Return the live row of an id, -1 where it has none, from a slot on that is reached after so many steps."""
        count = len(column)
        while (row := self._table.item(slot)) >= 0:
            if row < count and column.item(row) == image_id and live.item(row):
                return int(row)
            step += 1
            slot = (slot + step) & self._mask
        return -1

    def rows_of(self, ids: Ids, column: Ids) -> Rows:
        """Return every row of these ids that was inserted, in no order: int64; `ids` are distinct."""
        table, mask, count = self._table, self._mask, len(column)
        found = [np.empty(0, dtype=np.int64)]
        slots, step = self._slots(ids), 0
        while count and len(ids):
            rows = table.take(slots)
            found.append(rows[(column.take(rows, mode="clip") == ids) & (rows >= 0) & (rows < count)].astype(np.int64))
            more = np.flatnonzero(rows >= 0)
            step += 1
            ids, slots = ids[more], (slots[more] + step) & mask
        return np.concatenate(found)

    def _slots(self, ids: Ids) -> Slots:
        mixed: Slots = ((ids.astype(np.uint64) * _MIX) >> self._shift).view(np.int64)
        return mixed
