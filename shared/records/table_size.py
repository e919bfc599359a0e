"""What a table may take in memory once it is read: a small file may expand to gigabytes."""

import sys
from collections.abc import Mapping
from typing import Any, Final

from shared.errors import Invalid

MAX_ROWS: Final = 2_000_000
MAX_COLUMNS: Final = 1000
MAX_LINE: Final = 4_000_000
"""Characters of a line of text."""

_ROW: Final = 400  # bytes, beside its cells
_CELL: Final = 24


class TableSize:
    """Adds up what rows take, and refuses them beyond a number of bytes.

    Every `Invalid` here names the limit and the remedy.
    """

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0

    def add(self, number: int, cells: Mapping[str, Any]) -> None:
        """Count a row, by its number.

        Raises:
            Invalid: There are too many rows, or they take too much memory.
        """
        check_rows(number)
        self._taken += _ROW + sum(_CELL + _size_of(cell) for cell in cells.values())
        self.check(0, f"its first {number:,} rows")

    def check(self, more: int, what: str) -> None:
        """Make sure that there is room for so many more bytes, of what is about to be read.

        Raises:
            Invalid: There is none.
        """
        if self._taken + more > self._most:
            raise Invalid(
                f"the table takes more than {self._most / 2**20:,.0f} MB of memory, {what} alone: import it in parts "
                "of fewer rows, or without long columns"
            )


def check_rows(rows: int) -> None:
    """Make sure that a table has not too many rows.

    Raises:
        Invalid: It has.
    """
    if rows > MAX_ROWS:
        raise Invalid(f"the file has more than {MAX_ROWS:,} rows: import it in parts")


def check_columns(columns: int) -> None:
    """Make sure that a table has not too many columns.

    Raises:
        Invalid: It has.
    """
    if columns > MAX_COLUMNS:
        raise Invalid(f"the file has {columns:,} columns, at most {MAX_COLUMNS:,} are taken: leave some out")


def _size_of(value: object) -> int:
    if isinstance(value, Mapping):
        return sys.getsizeof(value) + sum(_size_of(name) + _size_of(item) for name, item in value.items())
    if isinstance(value, list):
        return sys.getsizeof(value) + sum(map(_size_of, value))
    return sys.getsizeof(value)
