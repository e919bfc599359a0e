"""Segments: rows go in and come out, broken bytes are refused."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.storage import segments
from shared.storage.catalog import EmbeddingSet
from tests.support import rows
from tests.support.examples import examples

DIM = 12
COLLECTION = EmbeddingSet("art", "00ff00ff", "lite", 3, DIM, 0.0)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=20, unique=True))
@examples(30)
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


def test_flags_are_kept_and_merged_with_segments_that_have_none() -> None:
    flagged = replace(rows.entry(3), flags=("damaged",))
    entries = [flagged, rows.entry(4)]
    vectors = rows.embeddings([3, 4], DIM)
    data = segments.pack(entries, vectors, collection="art", model="lite", version=3)
    batch = segments.unpack(data, verify=True)
    assert [segments.entry_of(batch, row) for row in range(2)] == entries
    plain = segments.pack([rows.entry(5)], rows.embeddings([5], DIM), collection="art", model="lite", version=3)
    made = segments.merge([("a", segments.unpack(plain), set()), ("b", batch, set())])
    assert made is not None
    merged = segments.unpack(made, verify=True)
    assert segments.flags_of(merged) == [(), ("damaged",), ()]
    assert segments.origins_of(merged).tolist() == [0, 1, 1]  # type: ignore[union-attr]
    assert "flags" not in segments.unpack(plain).schema.names


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


# Types of embeddings


def stored(numbers: Sequence[int], dtype: str) -> segments.Vectors:
    """Return the embeddings of images as a segment of this type has them, [n, DIM]."""
    vectors: segments.Vectors = rows.embeddings(numbers, DIM).astype(dtype)
    return vectors


def test_float16_is_kept_as_it_is_and_told() -> None:
    vectors = stored(range(20), "float16")
    data = segments.pack([rows.entry(number) for number in range(20)], vectors, collection="a", model="m", version=1)
    found = segments.vectors_of(segments.unpack(data, verify=True))
    assert found.dtype == np.float16
    assert found.tobytes() == vectors.tobytes()
    wide = segments.vectors_of(segments.unpack(rows.segment(range(20), COLLECTION), verify=True))
    assert wide.dtype == np.float32


def test_an_embedding_that_float16_cannot_hold_is_refused() -> None:
    with np.errstate(over="ignore"):
        vectors = np.full((1, 4), 1e6, np.float32).astype(np.float16)
    with pytest.raises(Invalid, match="float16"):
        segments.pack([rows.entry(1)], vectors, collection="a", model="m", version=1)
    with pytest.raises(Invalid, match="float64"):
        segments.pack([rows.entry(1)], np.zeros((1, 4)), collection="a", model="m", version=1)  # type: ignore[arg-type]


# Checksums


@pytest.mark.parametrize("merged", [False, True])
def test_every_changed_byte_of_a_column_is_found(merged: bool) -> None:  # noqa: FBT001
    data = rows.segment(range(6), COLLECTION)
    if merged:
        made = segments.merge([("a", segments.unpack(data), {rows.image_id(2)})])
        assert made is not None
        data = made
    batch = segments.unpack(data, verify=True)
    start = pa.py_buffer(data).address
    for column in batch.columns:
        values = column.values if pa.types.is_fixed_size_list(column.type) else column
        *_, buffer = (one for one in values.buffers() if one is not None)
        at = buffer.address - start
        for place in {at, at + buffer.size // 2, at + buffer.size - 1}:
            broken = bytearray(data)
            broken[place] ^= 0x10
            with pytest.raises(Invalid):
                segments.unpack(bytes(broken), verify=True)


def test_a_segment_from_before_checksums_is_read() -> None:
    batch = segments.unpack(rows.segment(range(5), COLLECTION))
    metadata = {key: value for key, value in batch.schema.metadata.items() if key != b"crc32"}
    old = segments.serialize(pa.Table.from_batches([batch.replace_schema_metadata(metadata)]))
    assert segments.ids_of(segments.unpack(old, verify=True)).tolist() == rows.ids(range(5))


# Merging

Parts = list[tuple[list[int], set[int]]]


@given(
    st.lists(
        st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True).flatmap(
            lambda numbers: st.tuples(st.just(numbers), st.sets(st.sampled_from([*numbers, 99])))
        ),
        min_size=1,
        max_size=5,
    ),
    st.sets(st.integers(0, 4)),
)
@examples(60)
def test_a_merged_segment_has_the_live_rows_of_its_inputs_each_image_once(parts: Parts, narrow: set[int]) -> None:
    inputs = []
    for place, (numbers, deleted) in enumerate(parts):
        vectors = stored(numbers, "float16" if place in narrow else "float32")
        data = rows.segment(numbers, COLLECTION, vectors)
        inputs.append((f"s{place}", segments.unpack(data), set(rows.ids(sorted(deleted)))))
    wanted: dict[int, int] = {}
    for place, (numbers, deleted) in enumerate(parts):
        for number in numbers:
            if number not in deleted:
                wanted.setdefault(number, place)
    data = segments.merge(iter(inputs))  # type: ignore[assignment]
    if not wanted:
        assert data is None
        return
    batch = segments.unpack(data, verify=True)
    assert segments.ids_of(batch).tolist() == rows.ids(list(wanted))
    assert [segments.entry_of(batch, row) for row in range(len(wanted))] == [rows.entry(number) for number in wanted]
    assert segments.inputs_of(batch) == tuple(name for name, _, _ in inputs)
    origins = segments.origins_of(batch)
    assert origins is not None
    assert origins.tolist() == list(wanted.values())
    found = segments.vectors_of(batch)
    assert found.dtype == (np.float16 if narrow.issuperset(range(len(parts))) else np.float32)
    for row, (number, place) in enumerate(wanted.items()):
        (before,) = stored([number], "float16" if place in narrow else "float32")
        assert np.array_equal(found[row], before.astype(found.dtype))
    assert batch.schema.metadata[b"collection"] == b"art"


def test_merged_segments_are_merged_and_name_only_what_they_were_made_of() -> None:
    first = segments.merge([("a", segments.unpack(rows.segment(range(3), COLLECTION)), set())])
    second = segments.merge(
        [
            ("m", segments.unpack(first or b""), {rows.image_id(1)}),
            ("b", segments.unpack(rows.segment([7], COLLECTION)), set()),
        ]
    )
    batch = segments.unpack(second or b"", verify=True)
    assert segments.inputs_of(batch) == ("m", "b")
    assert segments.ids_of(batch).tolist() == rows.ids([0, 2, 7])
    origins = segments.origins_of(batch)
    assert origins is not None
    assert origins.tolist() == [0, 0, 1]
    plain = segments.unpack(rows.segment([1], COLLECTION))
    assert (segments.inputs_of(plain), segments.origins_of(plain)) == ((), None)


def test_segments_of_two_models_are_not_merged() -> None:
    other = EmbeddingSet("art", "00ff00ff", "lite", 4, DIM, 0.0)
    parts = [
        (name, segments.unpack(rows.segment([1], one)), set[int]())
        for name, one in zip("ab", (COLLECTION, other), strict=True)
    ]
    with pytest.raises(Invalid, match="model version"):
        segments.merge(parts)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_row_of_a_merged_segment_is_found_in_its_bytes_without_reading_all(dtype: str) -> None:
    vectors = stored(range(500), dtype)
    data = segments.merge([("a", segments.unpack(rows.segment(range(500), COLLECTION, vectors)), {rows.image_id(3)})])
    assert data is not None
    lie = segments.places_of(data[: segments.HEAD_BYTES])
    assert (lie.rows, lie.dim, lie.dtype.name) == (499, DIM, dtype)
    ids = np.frombuffer(data, np.int64, lie.rows, lie.ids)
    assert ids.tolist() == [rows.image_id(number) for number in range(500) if number != 3]
    for row, number in [(0, 0), (3, 4), (498, 499)]:
        at, size = lie.vector(row)
        assert data[at : at + size] == vectors[number].tobytes()
        at, size = lie.digest(row)
        assert data[at : at + size].hex() == rows.digest(number)


@pytest.mark.parametrize("head", [b"", b"ARROW1\0\0", b"\xff" * 100, rows.segment([1], COLLECTION)])
def test_what_is_no_merged_segment_says_so(head: bytes) -> None:
    with pytest.raises(Invalid, match="head"):
        segments.places_of(head)
