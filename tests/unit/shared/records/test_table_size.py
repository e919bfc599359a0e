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
    with pytest.raises(Invalid, match="the column 'filename' cannot be read: it has the encoding DELTA_BYTE_ARRAY"):
        read_table(sink.getvalue())


@pytest.mark.usefixtures("little_memory")
def test_a_file_whose_footer_tells_too_little_is_measured_by_its_pages() -> None:
    data = parquet(filename=[f"{number}-" + "y" * 1000 for number in range(20_000)])
    told = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(0).total_uncompressed_size
    data = data.replace(varint(2 * told), varint(200, length=len(varint(2 * told))))
    assert pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(0).total_uncompressed_size == 100
    with pytest.raises(Invalid, match="its columns alone"):
        read_table(data, most=MOST)


def varint(number: int, *, length: int = 0) -> bytes:
    """Return a number as Thrift writes it, by so many bytes at least."""
    parts = list[int]()
    while number or len(parts) < max(length, 1):
        parts.append(number & 127)
        number >>= 7
    return bytes([*(part | 128 for part in parts[:-1]), parts[-1]])


@pytest.mark.parametrize("damage", [b"\xff" * 40, b"\x0f" * 40, b""])
def test_a_page_whose_header_is_damaged_is_refused(damage: bytes) -> None:
    data = parquet(filename=["a.jpg"])
    with pytest.raises(Invalid, match="no sound Parquet file"):
        read_table(data[:4] + damage + data[4 + (len(damage) or 40) :])


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"data_page_version": "2.0", "compression": "gzip"},
        {"use_dictionary": False, "compression": "none"},
        {"write_page_checksum": True, "row_group_size": 30, "write_page_index": True},
    ],
)
def test_files_of_all_kinds_are_read(options: dict[str, Any]) -> None:
    texts, tags = [f"text {number % 7}" for number in range(1000)], [["x", str(number)] for number in range(1000)]
    sink = io.BytesIO()
    pq.write_table(pa.table({"filename": texts, "tags": tags}), sink, **options)
    assert [list(row.cells.values()) for row in read_table(sink.getvalue()).rows] == [
        [text, tag] for text, tag in zip(texts, tags, strict=True)
    ]


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
