"""Segments: rows go in and come out, broken bytes are refused."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import segments
from shared.catalog import Collection
from shared.errors import Invalid
from tests import rows

DIM = 12
COLLECTION = Collection("art", "00ff00ff", "lite", 3, DIM, 0.0)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=20, unique=True))
@settings(max_examples=30, deadline=None)
def test_what_is_packed_comes_out_bit_for_bit(numbers: list[int]) -> None:
    batch = segments.unpack(rows.segment(numbers, COLLECTION))
    assert segments.ids_of(batch).tolist() == rows.ids(numbers)
    assert segments.vectors_of(batch).tobytes() == rows.embeddings(numbers, DIM).tobytes()
    assert [segments.entry_of(batch, row) for row in range(len(numbers))] == [rows.entry(number) for number in numbers]
    metadata = batch.schema.metadata
    assert (metadata[b"collection"], metadata[b"model"], metadata[b"version"]) == (b"art", b"lite", b"3")
    assert batch.schema.equals(segments.schema(DIM))


def test_names_of_every_script_and_no_label_survive() -> None:
    entry = segments.Entry(1, "ab" * 32, "Ölbild/絵 🎨\n.jpg", None, 0, "image/png", 1, 1, 0.5)
    data = segments.pack([entry], np.zeros((1, 3), np.float32), collection="a", model="m", version=1)
    assert segments.entry_of(segments.unpack(data), 0) == entry


def test_a_segment_without_rows_is_one() -> None:
    data = segments.pack([], np.empty((0, DIM), np.float32), collection="a", model="m", version=1)
    batch = segments.unpack(data)
    assert len(batch) == 0
    assert segments.ids_of(batch).shape == (0,)
    assert segments.vectors_of(batch).shape == (0, DIM)


def test_reading_copies_nothing() -> None:
    data = rows.segment(range(50), COLLECTION)
    batch = segments.unpack(data)
    start = pa.py_buffer(data).address
    for array in (segments.vectors_of(batch), segments.ids_of(batch)):
        assert start <= array.ctypes.data < start + len(data)


def test_the_embeddings_of_a_slice_are_those_of_its_rows() -> None:
    batch = segments.unpack(rows.segment(range(10), COLLECTION)).slice(3, 4)
    assert np.array_equal(segments.vectors_of(batch), rows.embeddings(range(3, 7), DIM))


def test_every_cut_is_refused() -> None:
    data = rows.segment(range(3), COLLECTION)
    for size in [*range(0, len(data), 97), len(data) - 1]:
        with pytest.raises(Invalid):
            segments.unpack(data[:size])


def test_other_bytes_and_other_formats_are_refused() -> None:
    with pytest.raises(Invalid, match="Arrow"):
        segments.unpack(b"\x89PNG\r\n\x1a\n" * 100)
    other = segments.schema(DIM).with_metadata({"format": "2"})
    with pytest.raises(Invalid, match="format"):
        segments.unpack(segments.serialize(pa.Table.from_batches([], schema=other)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_embedding_that_is_not_finite_is_refused(value: float) -> None:
    vectors = rows.embeddings(range(3), DIM)
    vectors[1, 5] = value
    with pytest.raises(Invalid, match="NaN"):
        rows.segment(range(3), COLLECTION, vectors)


@pytest.mark.parametrize("shape", [(2, DIM), (4, DIM), (3,)])
def test_as_many_embeddings_as_entries_are_wanted(shape: tuple[int, ...]) -> None:
    with pytest.raises(Invalid, match="3 entries"):
        rows.segment(range(3), COLLECTION, np.zeros(shape, np.float32))
