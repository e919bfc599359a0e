"""The tables of a record index in SQLite, and the statements that read and write them."""

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from shared.records import dates
from shared.records.change_file import ImageChange
from shared.records.model import FieldType, cells_from_json, cells_to_json
from shared.records.paths import Paths, paths_from_json, paths_to_json
from shared.records.value_columns import Column, Ids, Numbers

_VERSION: Final = 3  # of the tables and of what is written into them
_TERM: Final = 400  # characters of a value that are told apart in filters and facets
_WRITER_CACHE_KIB: Final = 24_000
_READER_CACHE_KIB: Final = 2_000
_JOURNAL: Final = 32 * 2**20  # bytes of the journal that are kept once a large change is in the tables
_CODES: Final = "SELECT coalesce(max(code), -1) + 1 FROM terms WHERE field = ?"
_TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE applied (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE fields (field INTEGER PRIMARY KEY, name TEXT UNIQUE, type TEXT);
CREATE TABLE documents (
    document INTEGER PRIMARY KEY, image INTEGER UNIQUE, erased INTEGER DEFAULT 0, record TEXT, paths TEXT
);
CREATE TABLE terms (
    field INTEGER, value TEXT, code INTEGER, folded TEXT, low REAL, high REAL, PRIMARY KEY (field, value)
) WITHOUT ROWID;
CREATE INDEX terms_by_code ON terms (field, code);
CREATE INDEX terms_by_span ON terms (field, low, high, code) WHERE low IS NOT NULL;
CREATE TABLE pairs (field INTEGER, document INTEGER, code INTEGER, PRIMARY KEY (field, document, code)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (text, content='', tokenize='unicode61 remove_diacritics 2');
"""

Pair = tuple[int, int, int]
Number = TypeVar("Number", np.int32, np.int64)


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open an index, or make it; one of another version, or that is damaged, is made anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = _open(path, _WRITER_CACHE_KIB)
        if _version(connection) == _VERSION and connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
            return connection
        connection.close()
    except sqlite3.DatabaseError:
        pass
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
    connection = _open(path, _WRITER_CACHE_KIB)
    connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open an index that there is."""
    return _open(path, _READER_CACHE_KIB)


def _open(path: Path, cache_kib: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
    connection.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = FILE; PRAGMA secure_delete = ON; "
        f"PRAGMA cache_size = -{cache_kib}; PRAGMA journal_size_limit = {_JOURNAL};"
    )
    return connection


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def get_meta(connection: sqlite3.Connection, key: str) -> str | None:
    """Return what is noted under a key."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def set_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Note something under a key."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


# Documents


def read_images(connection: sqlite3.Connection, known: Ids | None = None) -> Ids:
    """Return the image of each document, int64 [documents + 1]; those that are `known` are not read again."""
    held = np.zeros(1, dtype=np.int64) if known is None else known
    sql = "SELECT group_concat(image) FROM documents WHERE document >= ?"
    (joined,) = connection.execute(sql, (len(held),)).fetchone()
    return np.concatenate([held, _numbers(joined, np.int64)])


def read_documents(connection: sqlite3.Connection, image_ids: Sequence[int]) -> dict[int, int]:
    """Return the documents of images that have one."""
    sql = "SELECT image, document FROM documents WHERE image IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(sql, (json.dumps(list(image_ids)),)))


def read_records(connection: sqlite3.Connection, image_ids: Sequence[int]) -> dict[int, ImageChange]:
    """Return all that is held of images."""
    sql = "SELECT image, record, erased, paths FROM documents WHERE image IN (SELECT value FROM json_each(?))"
    return {
        image: ImageChange(image, cells_from_json(json.loads(record)), erased, paths_of(paths))
        for image, record, erased, paths in connection.execute(sql, (json.dumps(list(image_ids)),))
    }


def paths_of(stored: str | None) -> Paths:
    """Return the paths of a document; None: it has none."""
    return paths_from_json(json.loads(stored)) if stored else {}


def new_document(connection: sqlite3.Connection, image_id: int) -> int:
    """Give an image the next document."""
    cursor = connection.execute("INSERT INTO documents (image, record) VALUES (?, '{}')", (image_id,))
    return int(cursor.lastrowid or 0)


def write_record(connection: sqlite3.Connection, document: int, held: ImageChange) -> None:
    """Keep all that is held of a document."""
    record = json.dumps(cells_to_json(held.cells), ensure_ascii=False, separators=(",", ":"))
    paths = json.dumps(paths_to_json(held.paths), ensure_ascii=False) if held.paths else None
    sql = "UPDATE documents SET record = ?, erased = ?, paths = ? WHERE document = ?"
    connection.execute(sql, (record, held.erased, paths, document))


def write_words(connection: sqlite3.Connection, document: int, before: str, after: str) -> None:
    """Have the words of a document be those of one text instead of another."""
    if before == after:
        return
    if before:
        connection.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (document, before))
    if after:
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (document, after))


# Values


def term_of(value: str) -> str:
    """Return what stands for a value in filters and facets."""
    return value[:_TERM]


def overwrite_deleted(connection: sqlite3.Connection, fields: Iterable[int]) -> None:
    """Overwrite what was deleted: words, values of fields that no document has, and earlier pages of the file."""
    with connection:
        for field in fields:
            connection.execute(
                "DELETE FROM terms WHERE field = ?1 AND code NOT IN (SELECT code FROM pairs WHERE field = ?1)", (field,)
            )
        connection.execute("INSERT INTO words (words) VALUES ('optimize')")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def write_pairs(connection: sqlite3.Connection, removed: Sequence[Pair], added: Sequence[Pair]) -> None:
    """Note which documents have which values no more, and which they have now."""
    connection.executemany("DELETE FROM pairs WHERE field = ? AND document = ? AND code = ?", removed)
    connection.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?)", added)


def set_spans(connection: sqlite3.Connection, field: int, field_type: FieldType) -> None:
    """Reckon the spans of the values of a field anew: its type has changed."""
    values = connection.execute("SELECT value FROM terms WHERE field = ?", (field,)).fetchall()
    connection.executemany(
        "UPDATE terms SET low = ?, high = ? WHERE field = ? AND value = ?",
        [(*span_of(value, field_type), field, value) for (value,) in values],
    )


def read_column(connection: sqlite3.Connection, field: int) -> Column:
    """Return the values of a field of all documents."""
    return _column(connection, "SELECT group_concat(document), group_concat(code) FROM pairs WHERE field = ?", field)


def read_some(connection: sqlite3.Connection, field: int, documents: Iterable[int]) -> Column:
    """Return the values of a field of some documents."""
    sql = (
        "SELECT group_concat(document), group_concat(code) FROM pairs "
        "WHERE field = ? AND document IN (SELECT value FROM json_each(?))"
    )
    return _column(connection, sql, field, json.dumps(sorted(documents)))


def _column(connection: sqlite3.Connection, sql: str, field: int, *values: str) -> Column:
    docs, codes = connection.execute(sql, (field, *values)).fetchone()
    size = read_size(connection, field)
    return Column.of_pairs(_numbers(docs, np.int32), _numbers(codes, np.int32), int(size))


def read_size(connection: sqlite3.Connection, field: int) -> int:
    """Return the least number that no value of a field has had."""
    (size,) = connection.execute(_CODES, (field,)).fetchone()
    return int(size)


def read_numbers(connection: sqlite3.Connection, sql: str, values: Sequence[object]) -> Numbers:
    """Return the numbers that a statement joins to one text: much faster than a row for each."""
    (joined,) = connection.execute(sql, tuple(values)).fetchone()
    return _numbers(joined, np.int32)


def _numbers(joined: object, dtype: type[Number]) -> npt.NDArray[Number]:
    text = "" if joined is None else str(joined)
    return np.fromstring(text, dtype=dtype, sep=",") if text else np.zeros(0, dtype=dtype)


def span_of(value: str, field_type: FieldType) -> tuple[float | None, float | None]:
    """Return the least and the greatest number, or day, that a value stands for; None for what has no order."""
    if field_type == "date":
        span = dates.span(value)
        return (None, None) if span is None else span
    if field_type == "number":
        with suppress(ValueError):
            number = float(value)
            if math.isfinite(number):
                return number, number
    return None, None
