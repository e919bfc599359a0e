"""Tables of records as files: CSV and JSON lines, in and out; Parquet is read by `parquet_tables`."""

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from shared.errors import Invalid
from shared.records.model import FieldType, number_text
from shared.records.parquet_tables import read_parquet
from shared.records.table_size import MAX_LINE, TableSize, check_columns, check_rows

BOM: Final = "\ufeff"
_PARQUET: Final = b"PAR1"
SEPARATOR: Final = "|"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS: Final = ",;\t"
_MAX_CELL: Final = 10_000_000
_PIECE: Final = 2**20
_TYPES: Final[Mapping[str, FieldType]] = {"text": "text", "number": "number", "date": "date", "link": "link"}


@dataclass(frozen=True)
class Header:
    """A column: its name, and what a suffix says of type and language, as in ``height:number`` or ``title@de``."""

    name: str
    type: FieldType | None = None
    lang: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its number in the file, from 1 on for the first below the header, and its cells by column."""

    number: int
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table that was read; JSON lines that an export wrote are `exported`: their values name their origins."""

    columns: Sequence[str]
    rows: Sequence[Row]
    exported: bool = False


def read_table(data: bytes, *, most: int = sys.maxsize) -> Table:
    """Return the table in a CSV file, in JSON lines or in Parquet, whichever it is; it takes at most so many bytes.

    Raises:
        Invalid: It is none of them, and the message says where it ends to be one; or it takes more.
    """
    size = TableSize(most)
    if data[:4] == _PARQUET:
        columns, cells = read_parquet(data, size)
        return Table(columns, [Row(number, values) for number, values in enumerate(cells, 1)])
    encoding = _encoding_of(data)
    is_json = _begins_with(_text(data, encoding)) == "{"
    return _read_lines(data, encoding, size) if is_json else _read_csv(data, encoding, size)


@lru_cache(maxsize=1024)
def header_of(column: str) -> Header:
    """Return what the name of a column says."""
    name, _, suffix = column.partition(":")
    field_type = _TYPES.get(suffix.strip().lower())
    name = name if field_type is not None else column
    plain, at, lang = name.rpartition("@")
    return Header(plain.strip() if at else name.strip(), field_type, lang.strip() or None if at else None)


def split(cell: object) -> list[Any]:
    """Return the values of a cell: several are separated by ``|``, which is written with a backslash in a value."""
    if not isinstance(cell, str):
        return list(cell) if isinstance(cell, list) else [] if cell is None else [cell]
    if "\\" not in cell:
        return [value for value in (_without_escape(value.strip()) for value in cell.split(SEPARATOR)) if value]
    values, current, escaped = [], "", False
    for char in cell:
        if escaped:
            current += char if char in {SEPARATOR, "\\"} else "\\" + char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == SEPARATOR:
            values.append(current)
            current = ""
        else:
            current += char
    values.append(current + ("\\" if escaped else ""))
    return [value for value in (_without_escape(value.strip()) for value in values) if value]


def join(values: Iterable[str | float]) -> str:
    """Return values as a cell of CSV, which no spreadsheet takes for a formula."""
    texts = [value if isinstance(value, str) else number_text(value) for value in values]
    numbers = [not isinstance(value, str) for value in values] if isinstance(values, Sequence) else [False] * len(texts)
    escaped = [
        text.replace("\\", "\\\\").replace(SEPARATOR, "\\|") if number else _escaped(text)
        for text, number in zip(texts, numbers, strict=True)
    ]
    return SEPARATOR.join(escaped)


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a CSV file with a byte order mark, which spreadsheets need to read UTF-8."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    yield BOM + buffer.getvalue()
    for row in rows:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow(row)
        yield buffer.getvalue()


def _escaped(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace(SEPARATOR, "\\|")
    return "'" + plain if text.startswith((*_FORMULA, "'")) else plain


def _without_escape(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:2] in {*_FORMULA, "'"} else text


def _encoding_of(data: bytes) -> str:
    """Return the encoding of a text, which is decoded piece by piece: whole, it may take four times its bytes."""
    for encoding in ("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig", "cp1252"):
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for start in range(0, len(data), _PIECE):
                decoder.decode(data[start : start + _PIECE])
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    raise Invalid("the file is no text: save it as CSV in UTF-8")


def _text(data: bytes, encoding: str, *, newline: str = "") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline=newline)


def _begins_with(text: io.TextIOWrapper) -> str:
    """Return the first character of a text that is no space; empty if there is none."""
    while piece := text.read(_PIECE):
        if plain := piece.lstrip():
            return plain[0]
    return ""


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Yield the lines of a text.

    Raises:
        Invalid: One is too long.
    """
    number = 0
    while line := text.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise Invalid(f"line {number} of the file has more than {MAX_LINE:,} characters: is it a table?")
        yield line


def _read_csv(data: bytes, encoding: str, size: TableSize) -> Table:
    first = _text(data, encoding).readline(MAX_LINE)
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(_MAX_CELL)
    lines = csv.reader(_lines(_text(data, encoding)), delimiter=delimiter, strict=True)
    try:
        columns = [column.strip() for column in next(lines, [])]
        if not any(columns):
            raise Invalid("the file is empty: its first line names the columns")
        check_columns(len(columns))
        rows = list[Row]()
        for number, line in enumerate(lines, 1):
            if len(line) > len(columns) and any(cell.strip() for cell in line[len(columns) :]):
                raise Invalid(f"row {number} has {len(line)} cells, but the header names {len(columns)} columns")
            check_rows(number)
            if any(cell.strip() for cell in line):
                cells = dict(zip(columns, line, strict=False))
                size.add(number, cells)
                rows.append(Row(number, cells))
    except csv.Error as error:
        raise Invalid(f"the CSV file cannot be read in line {lines.line_num}: {error}") from error
    return Table(columns, rows)


def _read_lines(data: bytes, encoding: str, size: TableSize) -> Table:
    columns: dict[str, None] = {}
    rows = list[Row]()
    exported = False
    # JSON has other line separators within its texts.
    for number, line in enumerate(_lines(_text(data, encoding, newline="\n")), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise Invalid(f"line {number} is no JSON object")
            size.add(len(rows) + 1, values)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"line {number} is not JSON: {error}") from error
        if isinstance(values.get("fields"), dict):
            exported = True
        columns |= dict.fromkeys(values)
        check_columns(len(columns))
        rows.append(Row(number, values))
    return Table(list(columns), rows, exported)
