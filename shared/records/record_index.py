"""A local copy of the records of one collection, in SQLite, that is filtered, counted, sorted and searched.

It is built from change objects alone, so it may be deleted at any time. One thread changes it at a time; any number
read. Each image with a record has a number, its *document*, from 1 on.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from shared.records import index_tables
from shared.records.change_file import Change, FieldChange, ImageChange
from shared.records.filters import NONE, Criterion, Range, RecordFilter
from shared.records.model import (
    LABEL,
    PROSE,
    STANDARD,
    Cells,
    FieldType,
    folded,
    guess_type,
    values_of,
)
from shared.records.term_codes import TermCodes
from shared.records.value_columns import Bools, Column, Columns, Ids, Ranks
from shared.records.words import match_expression, words_of

_BATCH: Final = 1000  # images of a transaction
_FEW: Final = 2000  # changed images for which columns in memory are mended, not read again
_MANY: Final = 10_000  # values that are equally frequent: no more are sorted by their names
_BY_SPAN: Final = "SELECT group_concat(code) FROM (SELECT code FROM terms WHERE field = ? ORDER BY low, high, value)"
_BY_TEXT: Final = "SELECT group_concat(code) FROM (SELECT code FROM terms WHERE field = ? ORDER BY folded, value)"


@dataclass
class _Pairs:
    """Values that documents have no more, and values that they have now."""

    removed: list[index_tables.Pair] = field(default_factory=list)
    added: list[index_tables.Pair] = field(default_factory=list)


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

        Those without a value have the greatest number.
        """
        size = len(self._images)
        if (known := self._fields.get(name)) is not None:
            column = self._columns.get(known[0])
            rank = self._columns.ranks(known[0], lambda: self._ranks(known[0], known[1], column.size))
            return column.least(rank, size)
        return np.full(size, np.iinfo(np.int32).max, dtype=np.int32)

    def _ranks(self, field: int, field_type: FieldType, size: int) -> Ranks:
        by_span = field_type in {"number", "date"}
        codes = index_tables.read_numbers(self._reader(), _BY_SPAN if by_span else _BY_TEXT, (field,))
        ranks = np.full(size, np.iinfo(np.int32).max - 1, dtype=np.int32)
        codes = codes[codes < size]
        ranks[codes] = np.arange(len(codes), dtype=np.int32)
        return ranks

    # Changes

    def applied(self) -> set[str]:
        """Return the names of the change objects that were applied and are still listed."""
        return {name for (name,) in self._reader().execute("SELECT name FROM applied")}

    def apply(self, name: str, changes: Iterable[Change]) -> None:
        """Apply a change object. If it ends in the middle, it may be applied again."""
        with self._changing:
            try:
                self._apply_all(name, changes)
            except BaseException:  # what was not written is not in memory either
                self._codes.clear()
                self._load()
                raise

    def _apply_all(self, name: str, changes: Iterable[Change]) -> None:
        some: list[ImageChange] = []
        for change in changes:
            if isinstance(change, FieldChange):
                self._declare(change)
                continue
            some.append(change)
            if len(some) == _BATCH:
                self._apply(some)
                some = []
        self._apply(some, name)

    def note_applied(self, name: str) -> None:
        """Note that all that a change object says is there already."""
        with self._changing, self._writer:
            self._writer.execute("INSERT OR IGNORE INTO applied VALUES (?)", (name,))

    def forget(self, names: Iterable[str]) -> None:
        """Forget the names of change objects that are gone."""
        with self._changing, self._writer:
            self._writer.executemany("DELETE FROM applied WHERE name = ?", [(name,) for name in names])

    def _declare(self, change: FieldChange) -> None:
        if change.field in STANDARD or change.field == LABEL:
            return
        with self._writer:
            key = f"type:{change.field}"
            stamp, _, held = (index_tables.get_meta(self._writer, key) or "").partition(" ")
            if held and (int(stamp), held) >= (change.stamp, change.type):
                return
            index_tables.set_meta(self._writer, key, f"{change.stamp} {change.type}")
            known = self._fields.get(change.field)
            if known is None or known[1] != change.type:
                self._put_field(change.field, change.type)

    def _put_field(self, name: str, field_type: FieldType) -> int:
        sql = "INSERT INTO fields (name, type) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET type = excluded.type"
        self._writer.execute(sql, (name, field_type))
        (field,) = self._writer.execute("SELECT field FROM fields WHERE name = ?", (name,)).fetchone()
        index_tables.set_spans(self._writer, field, field_type)
        self._fields = {**self._fields, name: (field, field_type)}
        self._columns.forget([field])
        return int(field)

    def _field(self, name: str, values: Sequence[str | float]) -> int:
        known = self._fields.get(name)
        if known is not None:
            return known[0]
        return self._put_field(name, "text" if name == LABEL else STANDARD.get(name) or guess_type(values))

    def _apply(self, changes: Sequence[ImageChange], name: str | None = None) -> None:
        touched: set[int] = set()
        stamp, has_paths = self._stamp, self.has_paths
        with self._writer:
            held = index_tables.read_records(self._writer, [change.id for change in changes])
            pairs = _Pairs()
            documents = index_tables.read_documents(self._writer, [change.id for change in changes])
            for change in changes:
                before = held.get(change.id) or ImageChange(change.id)
                after = before.copy()
                after.merge(change)
                held[change.id] = after
                stamp = max(stamp, change.stamp)
                if after == before:
                    continue
                document = documents.get(change.id) or self._new_document(change.id)
                touched.add(document)
                self._index(document, before.cells, after.cells, pairs)
                index_tables.write_record(self._writer, document, after)
                has_paths = has_paths or bool(after.paths)
            columns = {field for field, _, _ in (*pairs.removed, *pairs.added)}
            index_tables.write_pairs(self._writer, pairs.removed, pairs.added)
            index_tables.set_meta(self._writer, "stamp", str(stamp))
            if has_paths and not self.has_paths:
                index_tables.set_meta(self._writer, "paths", "")
            if name is not None:
                self._writer.execute("INSERT OR IGNORE INTO applied VALUES (?)", (name,))
        self.has_paths = has_paths
        self._show(touched, columns, stamp)
        if touched and any(change.erased for change in changes):
            with suppress(sqlite3.OperationalError):  # somebody reads: it is done the next time
                index_tables.overwrite_deleted(self._writer, columns)
            self._codes.clear()
            self._columns.forget(columns)

    def _new_document(self, image_id: int) -> int:
        cursor = self._writer.execute("INSERT INTO documents (image, record) VALUES (?, '{}')", (image_id,))
        return int(cursor.lastrowid or 0)

    def _index(self, document: int, before: Cells, after: Cells, pairs: _Pairs) -> None:
        """Note which values a document has no more and has now, and bring its words up to date."""
        for name in {*before, *after}:
            old, new = _texts_of(before, name), _texts_of(after, name)
            if old.keys() == new.keys():
                continue
            number = self._field(name, list(new.values()))
            field_type = self._fields[name][1]
            gone = (self._codes.known(number, text) for text in old if text not in new)
            pairs.removed += [(number, document, code) for code in gone if code is not None]
            # The first value comes first: it has the first of new numbers.
            come = (self._codes.of(number, text, field_type) for text in new if text not in old)
            pairs.added += [(number, document, code) for code in come]
        old_words, new_words = words_of(before), words_of(after)
        if old_words != new_words:
            if old_words:
                self._writer.execute(
                    "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (document, old_words)
                )
            if new_words:
                self._writer.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (document, new_words))

    def _show(self, touched: set[int], columns: set[int], stamp: int) -> None:
        """Have readers see what was written."""
        if touched and max(touched) >= len(self._images):
            self._images = index_tables.read_images(self._writer, self._images)
        if len(touched) > _FEW // 2:
            self._columns.forget(columns)
        else:
            for field in columns:
                self._columns.mend(field, touched, partial(index_tables.read_some, self._writer, field, touched))
        self._stamp = stamp


def _texts_of(cells: Cells, name: str) -> dict[str, str | float]:
    """Return the values of a field that count, by how they are written; `NONE`: an image was said to have no label."""
    values = values_of(cells, name)
    if name == LABEL and values == ():
        return {NONE: NONE}
    return {value.text: value.value for value in values or ()}


def _flags(codes: Iterable[int], size: int) -> Bools:
    flags = np.zeros(size, dtype=np.bool_)
    inside = [code for code in codes if code < size]
    flags[inside] = True
    return flags
