"""Mapped segments: the rows of a segment on disk, merged or not, of either type, and the lengths of its embeddings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from services.query.replica import mapped_segment
from services.query.replica.mapped_segment import MappedSegment
from shared.errors import Invalid
from shared.storage import segments
from shared.storage.catalog import EmbeddingSet
from shared.storage.documents import DocumentPage
from tests.support import rows

DIM = 8
COLLECTION = EmbeddingSet("art", "00ff00ff", "lite", 3, DIM, 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, name: str, numbers: Sequence[int]) -> MappedSegment:
    path = folder / f"{name}.arrow"
    path.write_bytes(rows.segment(numbers, COLLECTION))
    return MappedSegment(path)


def test_a_pack_has_the_rows_of_its_segment(folder: Path) -> None:
    mapped = write(folder, "one", range(7))
    assert (len(mapped), mapped.name, mapped.inputs, mapped.origin(3)) == (7, "one", (), None)
    assert mapped.ids.tolist() == rows.ids(range(7))
    assert np.array_equal(mapped.vectors, rows.embeddings(range(7), DIM))
    assert mapped.sizes.tolist() == [rows.entry(number).size for number in range(7)]
    assert [mapped.entry(row) for row in range(7)] == [rows.entry(number) for number in range(7)]
    assert [mapped.labels[code] for code in mapped.label_codes] == [
        rows.entry(number).label or "" for number in range(7)
    ]


def test_entries_have_what_few_have_and_texts_of_any_length(folder: Path) -> None:
    page = DocumentPage("d" * 64, 2, 5)
    entries = [
        replace(rows.entry(0), name="", label=None),
        replace(rows.entry(1), name="ü/日本.jpg", flags=("damaged", "truncated")),
        replace(rows.entry(2), name="x" * 3000, label="a label", document=page),
        rows.entry(3),
    ]
    path = folder / "odd.arrow"
    path.write_bytes(segments.pack(entries, rows.embeddings(range(4), DIM), collection="art", model="lite", version=3))
    mapped = MappedSegment(path)
    assert [mapped.entry(row) for row in range(4)] == entries
    assert [segments.entry_of(mapped.rows, row) for row in range(4)] == entries
    path.write_bytes(segments.pack([], np.empty((0, DIM), np.float32), collection="art", model="lite", version=3))
    assert len(MappedSegment(path)) == 0


def test_a_merged_pack_tells_where_its_rows_come_from(folder: Path) -> None:
    parts = [
        (name, segments.unpack(rows.segment(some, COLLECTION)), {rows.image_id(1)})
        for name, some in (("a", [0, 1]), ("b", [1, 2, 3]))
    ]
    data = segments.merge(parts)
    assert data is not None
    (folder / "merged-x.arrow").write_bytes(data)
    mapped = MappedSegment(folder / "merged-x.arrow", verify=True)
    assert (mapped.name, mapped.inputs) == ("merged-x", ("a", "b"))
    assert [(int(mapped.ids[row]), mapped.origin(row)) for row in range(len(mapped))] == [
        (rows.image_id(number), origin) for number, origin in ((0, "a"), (2, "b"), (3, "b"))
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_lengths_are_those_of_the_embeddings_as_stored(
    folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: type, count: int
) -> None:
    """Computed a few rows at a time, or read from the file that was written the first time."""
    monkeypatch.setattr(mapped_segment, "_BLOCK", 7 * DIM)
    monkeypatch.setattr(mapped_segment, "_KEPT_FROM", 20)
    vectors: npt.NDArray[Any] = np.random.default_rng(1).lognormal(0, 2, (count, DIM)).astype(dtype)
    vectors[0] = 0
    entries = [rows.entry(number) for number in range(count)]
    path = folder / "some.arrow"
    path.write_bytes(segments.pack(entries, vectors, collection="art", model="lite", version=3))
    for _ in range(2):
        norms, squares = MappedSegment(path).lengths()
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        assert norms.dtype == squares.dtype == np.float32
        assert np.allclose(norms[1:], lengths[1:], rtol=1e-7)
        assert np.allclose(squares, lengths**2, rtol=1e-7)
        assert norms[0] > 0
        assert sorted(file.name for file in folder.iterdir()) == ["some.arrow", "some.lengths"][: 1 + (count == 40)]
    path.with_suffix(".lengths").write_bytes(b"cut short")
    assert np.array_equal(MappedSegment(path).lengths()[1], squares)
    MappedSegment(path).remove()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 1, 8, 100, -8, -1])
def test_a_file_cut_short_is_refused(folder: Path, kept: int) -> None:
    path = folder / "cut.arrow"
    data = rows.segment(range(3), COLLECTION)
    path.write_bytes(data[:kept])
    with pytest.raises(Invalid):
        MappedSegment(path)


def test_a_changed_byte_is_found_when_the_file_is_verified(folder: Path) -> None:
    mapped = write(folder, "changed", range(30))
    data = bytearray(mapped.path.read_bytes())
    place = bytes(data).index(mapped.vectors[17].tobytes())
    data[place] ^= 1
    mapped.path.write_bytes(data)
    MappedSegment(mapped.path)
    with pytest.raises(Invalid, match="checksum"):
        MappedSegment(mapped.path, verify=True)
