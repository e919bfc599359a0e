"""Tables of records in Parquet, read batch by batch: a value that a file has once may stand in every row."""

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.errors import Invalid
from shared.records.parquet_pages import unpacked_size
from shared.records.table_size import TableSize, check_columns, check_rows

FIELD_TYPE: Final = "type"
"""Of a column: the metadata that say which type the field has."""
_VECTOR: Final = "vector"  # an embedding, which no record has
_BATCH: Final = 256  # rows that are decoded at a time


def read_parquet(data: bytes, size: TableSize) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns of a Parquet file, named as CSV would have them, and the cells of its rows.

    Raises:
        Invalid: It is no sound Parquet file, has a column that is no text, number or date, or takes too much memory.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        leaves = _checked_leaves(file, data, size)
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=leaves)  # a value that comes again is there once
        names = {field.name: _column(field) for field in file.schema_arrow if field.name != _VECTOR}
        return list(names.values()), list(_rows(file, names, size))
    except (pa.ArrowException, OSError) as error:
        raise Invalid(f"the file is no sound Parquet file: {str(error)[:200]}") from None


def _checked_leaves(file: pq.ParquetFile, data: bytes, size: TableSize) -> list[str]:
    """Return the paths of the columns of texts, if all that is to be read may be, before any of it is unpacked."""
    check_rows(file.metadata.num_rows)
    check_columns(len(file.schema_arrow))
    for field in file.schema_arrow:
        if field.name != _VECTOR and not _is_plain(field.type):
            raise Invalid(
                f"the column {field.name!r} is of the type {field.type}: leave it out, or make it text, a number, a "
                "date or a list of these"
            )
    texts: dict[str, None] = {}
    unpacked = 0
    for group in range(file.metadata.num_row_groups):
        chunks = file.metadata.row_group(group)
        for place in range(chunks.num_columns):
            chunk = chunks.column(place)
            if chunk.path_in_schema.partition(".")[0] == _VECTOR:
                continue
            if chunk.physical_type == "BYTE_ARRAY":
                texts[chunk.path_in_schema] = None
            start = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
            try:
                unpacked += unpacked_size(data, start, start + chunk.total_compressed_size)
            except Invalid as error:
                raise Invalid(f"the column {chunk.path_in_schema!r} cannot be read: {error}") from error
    size.check(unpacked, "its columns")
    return list(texts)


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null, pa.types.is_primitive, pa.types.is_decimal)
    return any(is_one(kind) for is_one in plain)


def _column(column: pa.Field) -> str:
    """Return the name of a column as CSV would have it, with the type that the file says, or that of numbers."""
    inner = column.type.value_type if pa.types.is_list(column.type) else column.type
    said = (column.metadata or {}).get(FIELD_TYPE.encode(), b"").decode()
    return f"{column.name}:{said or 'number'}" if said or pa.types.is_floating(inner) else column.name


def _rows(file: pq.ParquetFile, names: dict[str, str], size: TableSize) -> Iterator[dict[str, Any]]:
    number = 0
    for group in range(file.num_row_groups):  # each has dictionaries of its own, and no batch of lists has two
        for batch in file.iter_batches(_BATCH, row_groups=[group], columns=list(names), use_threads=False):
            size.check(sum(map(_expanded, batch.columns)), f"its first {number + len(batch):,} rows")
            for values in batch.to_pylist():
                number += 1
                cells = {names[name]: _cell(value) for name, value in values.items()}
                size.add(number, cells)
                yield cells


def _expanded(array: pa.Array) -> int:
    """Return the bytes of the values of an array, each counted wherever it stands."""
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        array = array.flatten()
    if not pa.types.is_dictionary(array.type):
        return int(array.nbytes)
    if pa.types.is_null(array.dictionary.type) or not len(array.dictionary):
        return 0
    lengths = pc.cast(pc.binary_length(array.dictionary), pa.int64())
    return int(pc.sum(lengths.take(array.indices)).as_py() or 0)


def _cell(value: object) -> object:
    if isinstance(value, list):
        return [item for item in value if item is not None]
    return value if value is None or isinstance(value, str | float) else str(value)
