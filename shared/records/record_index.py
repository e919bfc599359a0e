"""A local copy of the records of one collection, in SQLite, that is filtered, counted, sorted and searched.

It is built from change objects alone, so it may be deleted at any time. One thread changes it at a time; any number
read. Each image with a record has a number, its *document*, from 1 on.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from shared.records import index_tables
from shared.records.change_file import Change, ImageChange
from shared.records.change_step import FEW, ChangeStep
from shared.records.filters import NONE, Criterion, Range, RecordFilter
from shared.records.model import LABEL, PROSE, STANDARD, FieldType, folded
from shared.records.term_codes import TermCodes
from shared.records.value_columns import Bools, Column, Columns, Ids, Ranks
from shared.records.words import match_expression

_MANY: Final = 10_000  # values that are equally frequent: no more are sorted by their names
_LAST: Final = np.iinfo(np.int32).max  # where what has no place in an order comes
_BY_SPAN: Final = (  # what has no span, such as a date that cannot be read, has no place in the order
    "SELECT group_concat(code) FROM "
    "(SELECT code FROM terms WHERE field = ? AND low IS NOT NULL ORDER BY low, high, value)"
)
_BY_TEXT: Final = "SELECT group_concat(code) FROM (SELECT code FROM terms WHERE field = ? ORDER BY folded, value)"


@dataclass(frozen=True)
class Facet:
    """How many images have a value."""

    value: str
    count: int


class RecordIndex:
    """The records of a collection, as far as they were applied."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it; one of another version, or that is damaged, is made anew."""
        self._path = path
        self._local = threading.local()
        self._changing = threading.RLock()
        self._connections: list[sqlite3.Connection] = []
        self._writer = index_tables.open_for_writing(path)
        self._codes = TermCodes(self._writer)
        self._fields: dict[str, tuple[int, FieldType]] = {}
        self._stamp = 0
        self.has_paths = False  # whether any record says anything of paths
        self._images: Ids = np.zeros(1, dtype=np.int64)
        self._columns = Columns(lambda field: index_tables.read_column(self._reader(), field))
        self._load()

    def close(self) -> None:
        """Close the file."""
        for connection in (self._writer, *self._connections):
            connection.close()

    def remove(self) -> None:
        """Close the file, and delete it."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()

    def _load(self) -> None:
        rows = self._writer.execute("SELECT field, name, type FROM fields").fetchall()
        self._fields = {name: (field, field_type) for field, name, field_type in rows}
        self._images = index_tables.read_images(self._writer)
        self._stamp = int(index_tables.get_meta(self._writer, "stamp") or 0)
        self.has_paths = index_tables.get_meta(self._writer, "paths") is not None

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = index_tables.open_for_reading(self._path)
            self._connections.append(connection)
        return connection

    # What there is

    @property
    def images(self) -> Ids:
        """The image of each document, int64 [documents + 1]; 0 for none. It is never changed, only replaced."""
        return self._images

    @property
    def stamp(self) -> int:
        """The latest stamp that was seen."""
        return self._stamp

    @property
    def has_labels(self) -> bool:
        """Whether any record says anything of labels."""
        return LABEL in self._fields

    def field_types(self) -> dict[str, FieldType]:
        """Return the types of all fields that there are values of, by name."""
        return {name: field_type for name, (_, field_type) in sorted(self._fields.items()) if name != LABEL}

    def records(self, image_ids: Sequence[int]) -> dict[int, ImageChange]:
        """Return all that is said of images that have a record."""
        return index_tables.read_records(self._reader(), image_ids)

    # Which documents

    def matching(self, wanted: RecordFilter) -> Bools:
        """Return which documents pass a filter, but for its labels: bool [documents + 1]; the first stands for none.

        Raises:
            Invalid: The filter does not fit the fields.
        """
        images = self._images
        passing = np.ones(len(images), dtype=np.bool_)
        for name, criterion in wanted.criteria.items():
            if name != LABEL:
                passing &= self._passing(name, criterion, len(images))
        if (expression := match_expression(wanted.text)) is not None:
            found = index_tables.read_numbers(
                self._reader(), "SELECT group_concat(rowid) FROM words WHERE words MATCH ?", (expression,)
            )
            having = np.zeros(len(images), dtype=np.bool_)
            having[found[found < len(images)]] = True
            passing &= having
        elif wanted.text.strip():
            passing[:] = False
        return passing

    def having_label(self, labels: Iterable[str]) -> tuple[Bools, Bools]:
        """Return which documents say anything of labels, and which of them one of these; each bool [documents + 1]."""
        size = len(self._images)
        said, passing = np.zeros(size, dtype=np.bool_), np.zeros(size, dtype=np.bool_)
        if LABEL in self._fields:
            column = self._columns.get(self._fields[LABEL][0])
            said = column.documents(np.ones(column.size, dtype=np.bool_), size)
            codes = self._flags_of(LABEL, list(labels), column)
            passing = column.documents(codes, size)
        return said, passing

    def _passing(self, name: str, criterion: Criterion, size: int) -> Bools:
        known = self._fields.get(name)
        if known is None:  # no image has a value
            everything = isinstance(criterion, tuple) and NONE in criterion
            if isinstance(criterion, Range):
                criterion.bounds(name, STANDARD.get(name, "date"))
            return np.full(size, everything, dtype=np.bool_)
        field, field_type = known
        column = self._columns.get(field)
        if isinstance(criterion, Range):
            low, high = criterion.bounds(name, field_type)
            rows = self._reader().execute(
                "SELECT code FROM terms WHERE field = ? AND low <= ? AND high >= ?", (field, high, low)
            )
            return column.documents(_flags((code for (code,) in rows), column.size), size)
        passing = column.documents(self._flags_of(name, criterion, column), size)
        if NONE in criterion:
            passing |= ~column.documents(np.ones(column.size, dtype=np.bool_), size)
        return passing

    def _flags_of(self, name: str, values: Sequence[str], column: Column) -> Bools:
        """Return which codes of a field stand for one of these values."""
        sql = "SELECT code FROM terms WHERE field = ? AND value IN (SELECT value FROM json_each(?))"
        terms = json.dumps([index_tables.term_of(value) for value in values])
        codes = self._reader().execute(sql, (self._fields[name][0], terms))
        return _flags((code for (code,) in codes), column.size)

    def warm(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Read the columns of all fields for which there is room, so that the first who asks does not wait."""
        fields = sorted(self._fields.items(), key=lambda item: item[0] in PROSE)
        for number in [number for _, (number, _) in fields]:
            if not self._columns.holds(number) and self._columns.has_room() and not is_stopped():
                self._columns.get(number)

    # Counts and order

    def facet(self, name: str, among: Ids | None, *, limit: int) -> list[Facet]:
        """Return the most frequent values of a field among documents, ascending, int64 [n]; None: among all."""
        known = self._fields.get(name)
        if known is None:
            return []
        column = self._columns.get(known[0])
        counts = column.counts(among)
        some = np.flatnonzero(counts)
        if len(some) > limit:
            least = np.partition(counts[some], len(some) - limit)[len(some) - limit]
            some = some[counts[some] >= least]
        if len(some) > _MANY:  # the first that were seen
            some = some[np.argsort(-counts[some], kind="stable")][:limit]
        named = self._values(known[0], some.tolist())
        facets = [Facet(named[code], int(counts[code])) for code in some.tolist() if code in named]
        return sorted(facets, key=lambda facet: (-facet.count, folded(facet.value), facet.value))[:limit]

    def _values(self, field: int, codes: Sequence[int]) -> dict[int, str]:
        sql = "SELECT code, value FROM terms WHERE field = ? AND code IN (SELECT value FROM json_each(?))"
        return dict(self._reader().execute(sql, (field, json.dumps(codes))))

    def distinct(self, name: str) -> int:
        """Return how many values a field has had."""
        known = self._fields.get(name)
        return 0 if known is None else index_tables.read_size(self._reader(), known[0])

    def order(self, name: str) -> Ranks:
        """Return where each document comes in the order of a field's values, int32 [documents + 1].

        Those without a value that has a place in the order have the greatest number.
        """
        size = len(self._images)
        if (known := self._fields.get(name)) is not None:
            column = self._columns.get(known[0])
            rank = self._columns.ranks(known[0], lambda: self._ranks(known[0], known[1], column.size))
            return column.least(rank, size)
        return np.full(size, _LAST, dtype=np.int32)

    def label_order(self, names: Sequence[str]) -> tuple[Ranks, Ranks]:
        """Return where each document comes in the order of labels, int32 [documents + 1], and where these labels come.

        What has no label has the greatest number; documents that say nothing of labels have -1.
        """
        size = len(self._images)
        if LABEL not in self._fields:
            return np.full(size, -1, dtype=np.int32), places_of(names, label_places(names))
        field = self._fields[LABEL][0]
        column = self._columns.get(field)
        rows = self._reader().execute(
            "SELECT value, code FROM terms WHERE field = ? AND code < ?", (field, column.size)
        )
        codes: dict[str, int] = dict(rows)
        places = label_places((*codes, *names))
        ranks = np.full(column.size, _LAST, dtype=np.int32)
        ranks[list(codes.values())] = places_of(list(codes), places)
        said = column.documents(np.ones(column.size, dtype=np.bool_), size)
        return np.where(said, column.least(ranks, size), np.int32(-1)), places_of(names, places)

    def _ranks(self, field: int, field_type: FieldType, size: int) -> Ranks:
        by_span = field_type in {"number", "date"}
        codes = index_tables.read_numbers(self._reader(), _BY_SPAN if by_span else _BY_TEXT, (field,))
        ranks = np.full(size, _LAST, dtype=np.int32)
        codes = codes[codes < size]
        ranks[codes] = np.arange(len(codes), dtype=np.int32)
        return ranks

    # Changes

    def applied(self) -> set[str]:
        """Return the names of the change objects that were applied and are still listed."""
        return {name for (name,) in self._reader().execute("SELECT name FROM applied")}

    def apply(self, name: str, changes: Iterable[Change]) -> None:
        """Apply a change object in one step: readers see nothing of it, or all.

        If it ends in the middle, nothing was applied, and it may be applied again.
        """
        with self._changing:
            step = ChangeStep(self._writer, self._codes, self._fields, stamp=self._stamp, has_paths=self.has_paths)
            try:
                with self._writer:
                    step.take(name, changes)
            except BaseException:  # what was not written is not in memory either
                self._codes.clear()
                self._load()
                raise
            self._show(step)

    def note_applied(self, name: str) -> None:
        """Note that all that a change object says is there already."""
        with self._changing, self._writer:
            self._writer.execute("INSERT OR IGNORE INTO applied VALUES (?)", (name,))

    def forget(self, names: Iterable[str]) -> None:
        """Forget the names of change objects that are gone."""
        with self._changing, self._writer:
            self._writer.executemany("DELETE FROM applied WHERE name = ?", [(name,) for name in names])

    def _show(self, step: ChangeStep) -> None:
        """Have readers see what was written."""
        if step.last >= len(self._images):
            self._images = index_tables.read_images(self._writer, self._images)
        self._fields, self.has_paths = step.fields, step.has_paths
        self._columns.forget(step.retyped)
        if len(step.documents) > FEW:
            self._columns.forget(step.columns)
        else:
            for number in step.columns:
                some = partial(index_tables.read_some, self._writer, number, step.documents)
                self._columns.mend(number, step.documents, some)
        self._stamp = step.stamp
        if step.is_erasing and step.last:
            with suppress(sqlite3.OperationalError):  # somebody reads: it is done the next time
                index_tables.overwrite_deleted(self._writer, step.columns)
            self._codes.clear()
            self._columns.forget(step.columns)


def label_places(labels: Iterable[str]) -> dict[str, int]:
    """Return where each label comes in their order."""
    ordered = sorted({*labels} - {NONE}, key=lambda label: (folded(label), label))
    return {label: place for place, label in enumerate(ordered)}


def places_of(labels: Sequence[str], places: Mapping[str, int]) -> Ranks:
    """Return the places of labels, int32 [n]; no label has the greatest number."""
    return np.array([places.get(label, _LAST) for label in labels], dtype=np.int32)


def _flags(codes: Iterable[int], size: int) -> Bools:
    flags = np.zeros(size, dtype=np.bool_)
    inside = [code for code in codes if code < size]
    flags[inside] = True
    return flags
