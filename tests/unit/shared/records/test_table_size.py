"""A table that expands in memory is refused, before it does; whatever its form is."""

import datetime as dt
import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import Invalid
from shared.records import table_size
from shared.records.tables import read_table

MOST = 8 * 2**20
LONG = "x" * 100_000


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def repeated(*, is_dictionary: bool) -> bytes:
    """Return a file with a long text in each of many rows, which has the text once."""
    texts = pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), pa.array([LONG]))
    sink = io.BytesIO()
    pq.write_table(pa.table({"filename": texts}), sink, store_schema=is_dictionary)
    assert len(sink.getvalue()) < 2**20
    return sink.getvalue()


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let a test take at most 64 MB more than there is."""
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    yield
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken + pa.total_allocated_bytes() - before < 64 * 2**20


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "data",
    [
        repeated(is_dictionary=False),  # 2 GB of text
        parquet(filename=["a.jpg"] * 20, labels=pa.array([[LONG] * 10] * 20)),
        repeated(is_dictionary=True),
        parquet(filename=[f"{number}-" + "y" * 1000 for number in range(20_000)]),  # by what the file says of itself
        parquet(filename=["a"] * 40_000),
        b"filename,title\n" + b"a.jpg,xy\n" * 40_000,
        b"filename,title\n" + (b"a.jpg," + b"x" * 1000 + b"\n") * 20_000,
        b'{"filename": "a.jpg"}\n' * 40_000,
        (b'{"filename": [' + b"[]," * 90_000 + b"[]]}\n") * 8,
        b"filename,title\n" + ("a.jpg," + "🖼" * 1000 + "\n").encode() * 5000,
    ],
    ids=["texts", "lists", "dictionary", "unpacked", "rows", "CSV rows", "CSV", "JSON rows", "JSON", "wide text"],
)
def test_a_table_that_takes_too_much_memory_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid, match=r"the table takes more than 8 MB of memory.*import it in parts"):
        read_table(data, most=MOST)


@pytest.mark.parametrize(
    "data", [parquet(filename=["a.jpg"] * 11), b"filename\n" + b"a.jpg\n" * 11, b'{"filename": "a.jpg"}\n' * 11]
)
def test_too_many_rows_are_refused(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_size, "MAX_ROWS", 10)
    monkeypatch.delattr(pq.ParquetFile, "iter_batches")  # a Parquet file says how many it has
    with pytest.raises(Invalid, match="more than 10 rows: import it in parts"):
        read_table(data)


@pytest.mark.parametrize(
    "data",
    [
        parquet(**{f"c{number}": ["a"] for number in range(1001)}),
        ",".join(f"c{number}" for number in range(1001)).encode(),
        json.dumps({f"c{number}": "a" for number in range(1001)}).encode(),
    ],
)
def test_too_many_columns_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid, match="1,001 columns, at most 1,000"):
        read_table(data)


@pytest.mark.parametrize("begin", [b"filename\na.jpg\n", b'{"filename": "a.jpg"}\n'])
def test_a_line_without_end_is_refused(begin: bytes) -> None:
    with pytest.raises(Invalid, match="of the file has more than 4,000,000 characters"):
        read_table(begin + b"x" * 5_000_000)


@pytest.mark.parametrize("column", [pa.array([{"bytes": b"x"}]), pa.array([b"x"]), pa.array([[["x"]]])])
def test_a_column_that_is_no_text_number_or_date_is_refused_by_its_name(column: pa.Array) -> None:
    with pytest.raises(Invalid, match=r"the column 'image' is of the type .*: leave it out"):
        read_table(parquet(filename=["a.jpg"], image=column))


def test_a_column_whose_texts_lean_on_each_other_is_refused_by_its_name() -> None:
    sink = io.BytesIO()
    encoding = {"filename": "DELTA_BYTE_ARRAY"}
    pq.write_table(pa.table({"filename": ["a.jpg"]}), sink, use_dictionary=False, column_encoding=encoding)
    with pytest.raises(Invalid, match="'filename' is encoded as DELTA_BYTE_ARRAY"):
        read_table(sink.getvalue())


def test_texts_numbers_dates_and_lists_of_them_are_read() -> None:
    table = read_table(
        parquet(
            filename=["a.jpg", "b.jpg"],
            kind=pa.array(["x", None]).dictionary_encode(),
            large=pa.array(["y", "z"], pa.large_string()),
            height=[1.5, None],
            count=[1, 2],
            bought=[dt.date(1710, 1, 2), None],
            tags=[["a", None, "b"], []],
            nothing=pa.nulls(2),
            vector=pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32())),
        )
    )
    assert list(table.columns) == [
        "filename", "kind", "large", "height:number", "count", "bought", "tags", "nothing"
    ]  # fmt: skip
    assert [list(row.cells.values()) for row in table.rows] == [
        ["a.jpg", "x", "y", 1.5, "1", "1710-01-02", ["a", "b"], None],
        ["b.jpg", None, "z", None, "2", None, [], None],
    ]
