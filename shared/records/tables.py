"""Tables of records as files: CSV and JSON lines, in and out."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import Invalid
from shared.records.model import FieldType, number_text

BOM: Final = "\ufeff"
_PARQUET: Final = b"PAR1"
FIELD_TYPE: Final = "type"
"""Of a column of Parquet: the metadata that say which type the field has."""
SEPARATOR: Final = "|"
MAX_ROWS: Final = 2_000_000
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS: Final = ",;\t"
_MAX_CELL: Final = 10_000_000
_TYPES: Final[Mapping[str, FieldType]] = {"text": "text", "number": "number", "date": "date", "link": "link"}


@dataclass(frozen=True)
class Header:
    """A column: its name, and what a suffix says of type and language, as in ``height:number`` or ``title@de``."""

    name: str
    type: FieldType | None = None
    lang: str | None = None


@dataclass(frozen=True)
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


def read_table(data: bytes) -> Table:
    """Return the table in a CSV file, in JSON lines or in Parquet, whichever it is.

    Raises:
        Invalid: It is none of them; the message says where it ends to be one.
    """
    if data[:4] == _PARQUET:
        return _read_parquet(data)
    text = _decoded(data)
    return _read_lines(text) if text.lstrip()[:1] == "{" else _read_csv(text)


def _read_parquet(data: bytes) -> Table:
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise Invalid(f"the file is no sound Parquet file: {str(error)[:200]}") from None
    if len(table) > MAX_ROWS:
        raise Invalid(f"the file has {len(table):,} rows, at most {MAX_ROWS:,} are taken")
    names = {field.name: _parquet_column(field) for field in table.schema if field.name != "vector"}
    rows = [
        Row(number, {names[name]: _parquet_cell(value) for name, value in values.items()})
        for number, values in enumerate(table.select(list(names)).to_pylist(), 1)
    ]
    return Table(list(names.values()), rows)


def _parquet_column(column: pa.Field) -> str:
    """Return the name of a column as CSV would have it, with the type that the file says, or that of numbers."""
    inner = column.type.value_type if pa.types.is_list(column.type) else column.type
    said = (column.metadata or {}).get(FIELD_TYPE.encode(), b"").decode()
    return f"{column.name}:{said or 'number'}" if said or pa.types.is_floating(inner) else column.name


def _parquet_cell(value: object) -> object:
    if isinstance(value, list):
        return [item for item in value if item is not None]
    return value if value is None or isinstance(value, str | float) else str(value)


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


def _decoded(data: bytes) -> str:
    for encoding in ("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise Invalid("the file is no text: save it as CSV in UTF-8")


def _read_csv(text: str) -> Table:
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(_MAX_CELL)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [column.strip() for column in next(lines, [])]
        if not any(columns):
            raise Invalid("the file is empty: its first line names the columns")
        rows = []
        for number, line in enumerate(lines, 1):
            if len(line) > len(columns) and any(cell.strip() for cell in line[len(columns) :]):
                raise Invalid(f"row {number} has {len(line)} cells, but the header names {len(columns)} columns")
            if any(cell.strip() for cell in line):
                rows.append(Row(number, dict(zip(columns, line, strict=False))))
            if number > MAX_ROWS:
                raise Invalid(f"the file has more than {MAX_ROWS:,} rows: import it in parts")
    except csv.Error as error:
        raise Invalid(f"the CSV file cannot be read in line {lines.line_num}: {error}") from error
    return Table(columns, rows)


def _read_lines(text: str) -> Table:
    columns: dict[str, None] = {}
    rows = []
    exported = False
    for number, line in enumerate(text.split("\n"), 1):  # JSON has other line separators within its texts
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"line {number} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise Invalid(f"line {number} is no JSON object")
        if isinstance(values.get("fields"), dict):
            exported = True
        columns |= dict.fromkeys(values)
        rows.append(Row(number, values))
        if len(rows) > MAX_ROWS:
            raise Invalid(f"the file has more than {MAX_ROWS:,} lines: import it in parts")
    return Table(list(columns), rows, exported)
