"""The numbers of values: each value of a field has one, counted from 0 on in the order in which values came."""

import sqlite3
from typing import Final

from shared.records.index_tables import span_of, term_of
from shared.records.model import FieldType, folded

_KEPT: Final = 100_000  # values in memory


class TermCodes:
    """Looks numbers up and gives new ones, for the one connection that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._codes: dict[tuple[int, str], int] = {}
        self._next: dict[int, int] = {}

    def clear(self) -> None:
        """Forget what is in memory: the tables have changed."""
        self._codes, self._next = {}, {}

    def known(self, field: int, value: str) -> int | None:
        """Return the number of a value, None if it has none."""
        term = term_of(value)
        code = self._codes.get((field, term))
        if code is None:
            sql = "SELECT code FROM terms WHERE field = ? AND value = ?"
            row = self._connection.execute(sql, (field, term)).fetchone()
            code = None if row is None else int(row[0])
            if code is not None:
                self._keep(field, term, code)
        return code

    def of(self, field: int, value: str, field_type: FieldType) -> int:
        """Return the number of a value, a new one if it has none."""
        code = self.known(field, value)
        if code is None:
            term, code = term_of(value), self._new(field)
            row = (field, term, code, folded(term), *span_of(term, field_type))
            self._connection.execute("INSERT INTO terms VALUES (?, ?, ?, ?, ?, ?)", row)
            self._keep(field, term, code)
        return code

    def _new(self, field: int) -> int:
        if field not in self._next:
            sql = "SELECT coalesce(max(code), -1) + 1 FROM terms WHERE field = ?"
            (self._next[field],) = self._connection.execute(sql, (field,)).fetchone()
        code = self._next[field]
        self._next[field] += 1
        return code

    def _keep(self, field: int, term: str, code: int) -> None:
        if len(self._codes) >= _KEPT:
            self._codes.clear()
        self._codes[field, term] = code
