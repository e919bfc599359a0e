"""The step by which a change object comes into the tables of a record index: within one transaction, whole or not."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.records import index_tables
from shared.records.change_file import Change, FieldChange, ImageChange
from shared.records.filters import NONE
from shared.records.model import LABEL, STANDARD, Cells, FieldType, guess_type, values_of
from shared.records.term_codes import TermCodes
from shared.records.words import words_of

FEW: Final = 10_000
"""Changed documents up to which each is told; of more, only that there are more."""

_BATCH: Final = 1000  # images that are looked up at a time


@dataclass
class _Pairs:
    """Values that documents have no more, and values that they have now."""

    removed: list[index_tables.Pair] = field(default_factory=list)
    added: list[index_tables.Pair] = field(default_factory=list)


class ChangeStep:
    """Writes a change object, and tells what has changed by it.

    Attributes:
        fields: Number and type of all fields, by name.
        stamp: The latest stamp that was seen.
        has_paths: Whether any record says anything of paths.
        columns: The fields of which values came or went.
        retyped: The fields that are new or have another type.
        documents: Which documents were changed; of more than `FEW`, some.
        last: The greatest number of a document that was changed; 0: none was.
        is_erasing: Whether anything was erased.
    """

    def __init__(
        self,
        writer: sqlite3.Connection,
        codes: TermCodes,
        fields: Mapping[str, tuple[int, FieldType]],
        *,
        stamp: int,
        has_paths: bool,
    ) -> None:
        """Write by a connection that is in a transaction; what there was before is given."""
        self._writer, self._codes = writer, codes
        self.fields, self.stamp, self.has_paths = dict(fields), stamp, has_paths
        self.columns: set[int] = set()
        self.retyped: set[int] = set()
        self.documents: set[int] = set()
        self.last = 0
        self.is_erasing = False

    def take(self, name: str, changes: Iterable[Change]) -> None:
        """Write what a change object says, and that it was applied."""
        some: list[ImageChange] = []
        for change in changes:
            if isinstance(change, FieldChange):
                self._declare(change)
                continue
            some.append(change)
            if len(some) == _BATCH:
                self._take(some)
                some = []
        self._take(some)
        index_tables.set_meta(self._writer, "stamp", str(self.stamp))
        if self.has_paths:
            index_tables.set_meta(self._writer, "paths", "")
        self._writer.execute("INSERT OR IGNORE INTO applied VALUES (?)", (name,))

    def _declare(self, change: FieldChange) -> None:
        if change.field in STANDARD or change.field == LABEL:
            return
        key = f"type:{change.field}"
        stamp, _, held = (index_tables.get_meta(self._writer, key) or "").partition(" ")
        if held and (int(stamp), held) >= (change.stamp, change.type):
            return
        index_tables.set_meta(self._writer, key, f"{change.stamp} {change.type}")
        known = self.fields.get(change.field)
        if known is None or known[1] != change.type:
            self._put_field(change.field, change.type)

    def _put_field(self, name: str, field_type: FieldType) -> int:
        sql = "INSERT INTO fields (name, type) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET type = excluded.type"
        self._writer.execute(sql, (name, field_type))
        (number,) = self._writer.execute("SELECT field FROM fields WHERE name = ?", (name,)).fetchone()
        index_tables.set_spans(self._writer, number, field_type)
        self.fields[name] = (number, field_type)
        self.retyped.add(number)
        return int(number)

    def _field(self, name: str, values: Sequence[str | float]) -> int:
        known = self.fields.get(name)
        if known is not None:
            return known[0]
        return self._put_field(name, "text" if name == LABEL else STANDARD.get(name) or guess_type(values))

    def _take(self, changes: Sequence[ImageChange]) -> None:
        ids = [change.id for change in changes]
        held = index_tables.read_records(self._writer, ids)
        documents = index_tables.read_documents(self._writer, ids)
        pairs = _Pairs()
        for change in changes:
            before = held.get(change.id) or ImageChange(change.id)
            after = before.copy()
            after.merge(change)
            held[change.id] = after
            self.stamp = max(self.stamp, change.stamp)
            self.is_erasing = self.is_erasing or bool(change.erased)
            if after == before:
                continue
            if change.id not in documents:
                documents[change.id] = index_tables.new_document(self._writer, change.id)
            document = documents[change.id]
            self._touch(document)
            self._index(document, before.cells, after.cells, pairs)
            index_tables.write_record(self._writer, document, after)
            self.has_paths = self.has_paths or bool(after.paths)
        self.columns |= {number for number, _, _ in (*pairs.removed, *pairs.added)}
        index_tables.write_pairs(self._writer, pairs.removed, pairs.added)

    def _touch(self, document: int) -> None:
        self.last = max(self.last, document)
        if len(self.documents) <= FEW:
            self.documents.add(document)

    def _index(self, document: int, before: Cells, after: Cells, pairs: _Pairs) -> None:
        """Note which values a document has no more and has now, and bring its words up to date."""
        for name in {*before, *after}:
            old, new = _texts_of(before, name), _texts_of(after, name)
            if old.keys() == new.keys():
                continue
            number = self._field(name, list(new.values()))
            field_type = self.fields[name][1]
            gone = (self._codes.known(number, text) for text in old if text not in new)
            pairs.removed += [(number, document, code) for code in gone if code is not None]
            # The first value comes first: it has the first of new numbers.
            come = (self._codes.of(number, text, field_type) for text in new if text not in old)
            pairs.added += [(number, document, code) for code in come]
        index_tables.write_words(self._writer, document, words_of(before), words_of(after))


def _texts_of(cells: Cells, name: str) -> dict[str, str | float]:
    """Return the values of a field that count, by how they are written; `NONE`: an image was said to have no label."""
    values = values_of(cells, name)
    if name == LABEL and values == ():
        return {NONE: NONE}
    return {value.text: value.value for value in values or ()}
