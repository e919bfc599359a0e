"""Packs: rows on disk with their marks, found by id, merged into one file without losing anything."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.query.packs import Pack, write_merged
from shared.catalog import Collection
from shared.errors import Invalid
from tests import rows

DIM = 8
COLLECTION = Collection("art", "00ff00ff", "lite", 3, DIM, 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packs")


def write(folder: Path, name: str, numbers: Sequence[int]) -> Pack:
    path = folder / f"{name}.arrow"
    path.write_bytes(rows.segment(numbers, COLLECTION))
    return Pack(path, name)


def merge(folder: Path, name: str, packs: Sequence[Pack]) -> Pack:
    path = folder / f"{name}.arrow"
    write_merged(path, packs)
    return Pack(path, name)


def test_a_pack_has_the_rows_of_its_segment(folder: Path) -> None:
    pack = write(folder, "one", range(7))
    assert (len(pack), pack.segments) == (7, ("one",))
    assert pack.ids.tolist() == rows.ids(range(7))
    assert np.array_equal(pack.vectors, rows.embeddings(range(7), DIM))
    assert pack.live.all()
    assert [pack.entry(row) for row in range(7)] == [rows.entry(number) for number in range(7)]
    assert [pack.label(row) for row in range(7)] == [rows.entry(number).label or "" for number in range(7)]
    lengths = np.linalg.norm(pack.vectors.astype(np.float64), axis=1)
    assert np.allclose(pack.norms, lengths, rtol=1e-7)
    assert np.allclose(pack.squares, lengths**2, rtol=1e-7)


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.lists(st.integers(0, 14), max_size=15))
@settings(max_examples=50, deadline=None)
def test_locate_gives_the_live_rows_of_those_ids_that_have_one(
    folder: Path, dead: set[int], shadowed: set[int], wanted: list[int]
) -> None:
    pack = write(folder, "located", range(10))
    pack.locate(pack.ids)  # what is remembered from before the marks must not be used after
    pack.dead[list(dead)] = True
    pack.shadowed[list(shadowed)] = True
    pack.marks_changed()
    positions, found = pack.locate(np.array(rows.ids(wanted), dtype=np.int64))
    live = set(range(10)) - dead - shadowed
    assert {(int(place), int(row)) for place, row in zip(positions, found, strict=True)} == {
        (place, number) for place, number in enumerate(wanted) if number in live
    }


def test_rows_with_gives_dead_rows_too(folder: Path) -> None:
    pack = write(folder, "some", range(10))
    pack.dead[3] = True
    pack.marks_changed()
    assert pack.rows_with(np.array(rows.ids([3, 5, 77]), dtype=np.int64)).tolist() == [3, 5]


def test_a_row_is_found_by_its_segment_and_image(folder: Path) -> None:
    pack = write(folder, "segment", range(4))
    assert pack.row_of("segment", rows.image_id(2)) == 2
    assert pack.row_of("segment", rows.image_id(9)) is None
    assert pack.row_of("another", rows.image_id(2)) is None


def test_a_merged_pack_has_the_rows_that_are_not_dead_each_with_its_segment(folder: Path) -> None:
    packs = [write(folder, name, numbers) for name, numbers in (("a", [0, 1, 2]), ("b", [2, 3]), ("c", [4]))]
    packs[0].dead[1] = True
    packs[1].shadowed[0] = True  # the same image as in "a": kept, since "a" may lose it
    merged = merge(folder, "merged", packs)
    assert merged.segments == ("a", "b", "c")
    assert merged.ids.tolist() == rows.ids([0, 2, 2, 3, 4])
    assert np.array_equal(merged.vectors, rows.embeddings([0, 2, 2, 3, 4], DIM))
    assert [merged.entry(row) for row in range(5)] == [rows.entry(number) for number in [0, 2, 2, 3, 4]]
    assert [merged.row_of(segment, rows.image_id(2)) for segment in "abc"] == [1, 2, None]
    assert merged.row_of("a", rows.image_id(1)) is None
    assert [merged.label(row) for row in range(5)] == [rows.entry(number).label or "" for number in [0, 2, 2, 3, 4]]


def test_merged_packs_can_be_merged_again(folder: Path) -> None:
    first = merge(folder, "first", [write(folder, "a", [0, 1]), write(folder, "b", [2])])
    second = merge(folder, "second", [write(folder, "c", [3]), first, write(folder, "d", [4])])
    assert second.segments == ("c", "a", "b", "d")
    assert second.ids.tolist() == rows.ids([3, 0, 1, 2, 4])
    for segment, numbers in {"a": [0, 1], "b": [2], "c": [3], "d": [4]}.items():
        for number in range(5):
            row = second.row_of(segment, rows.image_id(number))
            assert (row is not None) == (number in numbers)
            if row is not None:
                assert second.ids[row] == rows.image_id(number)


def test_packs_of_which_nothing_is_left_merge_into_an_empty_one(folder: Path) -> None:
    packs = [write(folder, name, [number]) for number, name in enumerate("ab")]
    for pack in packs:
        pack.dead[:] = True
    merged = merge(folder, "nothing", packs)
    assert (len(merged), merged.segments) == (0, ("a", "b"))
    assert merged.row_of("a", rows.image_id(0)) is None
    again = merge(folder, "something", [merged, write(folder, "c", [5])])
    assert (again.segments, again.ids.tolist()) == (("a", "b", "c"), rows.ids([5]))


@pytest.mark.parametrize("kept", [0, 1, 8, 100, -8, -1])
def test_a_file_cut_short_is_refused(folder: Path, kept: int) -> None:
    path = folder / "cut.arrow"
    data = rows.segment(range(3), COLLECTION)
    path.write_bytes(data[:kept])
    with pytest.raises(Invalid):
        Pack(path, "cut")
