"""A replica's rows: segments come, go and are merged, rows are deleted, and every view shows a whole collection."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.query.replica import row_table
from services.query.replica.mapped_segment import MappedSegment
from services.query.replica.row_table import RowTable
from services.query.replica.view import Filter, RowFilter, View
from shared.storage import segments
from shared.storage.catalog import EmbeddingSet
from tests.support import rows
from tests.support.examples import examples

DIM = 4
COLLECTION = EmbeddingSet("art", "00ff00ff", "lite", 3, DIM, 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, name: str, numbers: Sequence[int]) -> MappedSegment:
    path = folder / f"{name}.arrow"
    path.write_bytes(rows.segment(numbers, COLLECTION, None if len(numbers) else np.empty((0, DIM), np.float32)))
    return MappedSegment(path)


def merge(
    folder: Path, name: str, mapped_segments: Sequence[MappedSegment], deleted: dict[str, set[int]]
) -> MappedSegment:
    data = segments.merge([(mapped.name, mapped.rows, deleted.get(mapped.name, set())) for mapped in mapped_segments])
    assert data is not None
    path = folder / f"{name}.arrow"
    path.write_bytes(data)
    return MappedSegment(path)


def numbers_in(view: View) -> list[int]:
    """Return the numbers of the live images, once for each live row."""
    known = {rows.image_id(number): number for number in range(200)}
    return sorted(known[image] for image in view.ids[view.live].tolist())


def assert_holds(view: View, numbers: Sequence[int]) -> None:
    """Check that exactly these images are in the view, once each, by every way to read it."""
    assert numbers_in(view) == sorted(numbers)
    assert view.images == len(numbers)
    assert view.counts.images == len(numbers)
    assert view.counts.bytes == sum(rows.entry(number).size for number in numbers)
    assert view.counts.classes == Counter(label for number in numbers if (label := rows.entry(number).label))
    for number in range(200):
        row = view.row(rows.image_id(number))
        assert (row is not None) == (number in numbers)
        if row is not None:
            mapped, local = view.place(row)
            assert mapped.entry(local) == rows.entry(number)
            assert view.norms[row] == pytest.approx(1.0)
    everything = RowFilter(view, Filter()).rows()
    parts = list(view.parts(everything))
    assert [len(some) for _, _, some in parts] == [part.stop - part.start for _, part, _ in parts]
    assert [int(mapped.ids[row]) for mapped, _, some in parts for row in some] == view.ids[everything].tolist()
    total, page = view.latest(limit=7, offset=2, label="")
    assert total == len(numbers)
    latest = sorted(numbers, reverse=True)[2:9]  # of a higher number, added later
    assert view.ids[page].tolist() == rows.ids(latest)


def test_a_table_begins_empty() -> None:
    assert_holds(RowTable().view, [])


def test_packs_come_and_go_and_old_views_stay_as_they_were(folder: Path) -> None:
    table = RowTable()
    mapped_segments = [
        write(folder, name, some) for name, some in (("a", [1, 2, 3]), ("b", [3, 4]), ("c", []), ("d", [5]))
    ]
    views: list[tuple[View, list[int]]] = [(table.view, [])]
    table.swap(mapped_segments[:2])
    views.append((table.view, [1, 2, 3, 4]))
    table.swap([mapped_segments[2], mapped_segments[3]], [mapped_segments[0]])
    views.append((table.view, [3, 4, 5]))
    table.add_tombstones({"b": {rows.image_id(3)}, "nowhere": {rows.image_id(4)}})
    views.append((table.view, [4, 5]))
    table.swap([], mapped_segments[1:])
    views.append((table.view, []))
    for view, numbers in views:
        assert_holds(view, numbers)


def test_segments_that_come_first_and_together_may_share_images_and_have_deleted_ones(folder: Path) -> None:
    for contents in ({"a": [1, 2], "b": [3]}, {"a": [1, 2, 3], "b": [3, 4]}, {"a": [], "b": [5]}, {"a": [2]}):
        table = RowTable()
        table.add_tombstones({"a": {rows.image_id(1)}})
        table.swap([write(folder, name, numbers) for name, numbers in contents.items()])
        assert_holds(table.view, sorted({number for numbers in contents.values() for number in numbers} - {1}))


def test_segments_of_deleted_rows_leave_images_with_two_rows_as_they_are(folder: Path) -> None:
    table = RowTable()
    table.swap([write(folder, "a", [1]), write(folder, "b", [1])])
    table.add_tombstones({"c": set(rows.ids([7, 8]))})
    table.swap([write(folder, "c", [7, 8])])
    assert_holds(table.view, [1])


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("deleted", ["a", "b"])
def test_an_image_in_two_packs_counts_once_and_either_row_may_die(folder: Path, first: str, deleted: str) -> None:
    mapped_segments = {"a": write(folder, "a", [1, 2, 3]), "b": write(folder, "b", [3, 4])}
    table = RowTable()
    table.swap([mapped_segments.pop(first)])
    table.swap(list(mapped_segments.values()))
    assert_holds(table.view, [1, 2, 3, 4])
    table.add_tombstones({deleted: {rows.image_id(3)}})
    assert_holds(table.view, [1, 2, 3, 4])  # by the other row
    table.add_tombstones({"a" if deleted == "b" else "b": {rows.image_id(3)}})
    assert_holds(table.view, [1, 2, 4])


def test_a_deletion_may_be_known_before_its_pack_and_is_forgotten_only_where_nobody_needs_it(folder: Path) -> None:
    table = RowTable()
    table.add_tombstones({"a": {rows.image_id(1)}, "b": {rows.image_id(2)}})
    table.forget_tombstones({"a"})
    table.swap([write(folder, "a", [1, 5]), write(folder, "b", [2])])
    assert_holds(table.view, [2, 5])
    table.forget_tombstones(set())
    table.swap([write(folder, "a", [1, 5])])
    assert_holds(table.view, [2, 5])


def test_a_deletion_from_an_input_reaches_the_merged_row_that_came_from_it_and_no_other(folder: Path) -> None:
    a, b = write(folder, "a", [1, 2, 3]), write(folder, "b", [3, 4])
    for early in (True, False):
        table = RowTable()
        table.swap([a, b])
        merged = merge(folder, "merged-1", [a, b], {"a": {rows.image_id(3)}})  # so 3 comes from b
        deleted = {"a": {rows.image_id(1), rows.image_id(3)}, "b": {rows.image_id(4), rows.image_id(2)}}
        if early:
            table.add_tombstones(deleted)
        table.swap([merged], [a, b])
        if not early:
            assert_holds(table.view, [1, 2, 3, 4])
            table.add_tombstones(deleted)
        assert_holds(table.view, [2, 3])
        table.add_tombstones({"merged-1": {rows.image_id(2)}})
        assert_holds(table.view, [3])


def test_a_merge_without_a_row_lets_another_pack_show_the_image(folder: Path) -> None:
    """The merge dropped the row as deleted, by a tombstone that reached this table never, or does later."""
    a, b, c = write(folder, "a", [1, 2]), write(folder, "b", [3]), write(folder, "c", [1])
    table = RowTable()
    table.swap([a, b, c])
    table.swap([merge(folder, "merged-1", [a, b], {"a": {rows.image_id(1)}})], [a, b])
    assert_holds(table.view, [1, 2, 3])
    table.add_tombstones({"a": {rows.image_id(1)}})
    assert_holds(table.view, [1, 2, 3])
    table.add_tombstones({"c": {rows.image_id(1)}})
    assert_holds(table.view, [2, 3])


@pytest.fixture(params=[(1024, 10_000), (1, 3)], ids=["as it is", "numbered anew all the time"])
def tight(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with room for many rows, and with so little that columns and numbers change all the time."""
    monkeypatch.setattr(row_table, "_SMALLEST", request.param[0])
    monkeypatch.setattr(row_table, "_LOOSE", request.param[1])


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_every_view_is_what_a_plain_model_says(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    table, here, deleted, kept = RowTable(), dict[str, MappedSegment](), dict[str, set[int]](), []
    contents: dict[str, dict[int, str]] = {}  # of each segment: number to the segment that it came from

    def live() -> list[int]:
        return sorted(
            {
                number
                for name in here
                for number, origin in contents[name].items()
                if not {rows.image_id(number)} & (deleted.get(name, set()) | deleted.get(origin, set()))
            }
        )

    for step in range(60):
        match chance.choice(["come", "come", "come", "delete", "delete", "go", "merge"]):
            case "come":
                name = f"s{step}"
                some = chance.sample(range(60), chance.randrange(0, 8))
                contents[name] = dict.fromkeys(some, name)
                if chance.random() < 0.2 and some:  # its deletion is known first
                    early = {rows.image_id(some[0])}
                    deleted[name] = early
                    table.add_tombstones({name: early})
                here[name] = write(folder, name, some)
                table.swap([here[name]])
            case "delete" if here:
                name = chance.choice(list(here))
                of = [(number, chance.choice([name, origin])) for number, origin in contents[name].items()]
                tombstones: dict[str, set[int]] = {}
                for number, segment in chance.sample(of, min(len(of), chance.randrange(1, 3))):
                    tombstones.setdefault(segment, set()).add(rows.image_id(number))
                for segment, images in tombstones.items():
                    deleted.setdefault(segment, set()).update(images)
                table.add_tombstones(tombstones)
            case "go" if here:
                table.swap([], [here.pop(chance.choice(list(here)))])
            case "merge" if len(here) > 3:
                inputs = [mapped for mapped in here.values() if not mapped.inputs][:4]
                if segments.merge([(mapped.name, mapped.rows, deleted.get(mapped.name, set())) for mapped in inputs]):
                    merged = merge(folder, f"merged-{step}", inputs, deleted)
                    known = {rows.image_id(number): number for number in range(60)}
                    contents[merged.name] = {
                        known[int(merged.ids[row])]: str(merged.origin(row)) for row in range(len(merged))
                    }
                    for mapped in inputs:
                        del here[mapped.name]
                    here[merged.name] = merged
                    table.swap([merged], inputs)
        kept.append((table.view, live()))
        assert numbers_in(table.view) == live()
    for view, numbers in kept[::7]:
        assert_holds(view, numbers)


@given(
    st.sets(st.sampled_from(["drawing", "painting", "nothing"])),
    st.one_of(st.none(), st.lists(st.integers(0, 70), max_size=40)),
    st.lists(st.integers(0, 59), unique=True),
)
@examples(150)
def test_a_filter_lets_through_what_it_says(
    view: View, labels: set[str], among: list[int] | None, asked: list[int]
) -> None:
    ids = None if among is None else np.array(rows.ids(among), dtype=np.int64)
    row_filter = RowFilter(view, Filter(frozenset(labels) or None, ids))
    passing = {
        number
        for number in numbers_in(view)
        if (not labels or rows.entry(number).label in labels) and (among is None or number in among)
    }
    assert sorted(view.ids[row_filter.rows()].tolist()) == sorted(rows.ids(sorted(passing)))
    assert row_filter.size >= len(passing)
    if among is None:
        assert row_filter.size == len(passing)
    some = view.find(np.array(rows.ids(asked), dtype=np.int64))
    some = some[some >= 0]
    let = view.ids[some[row_filter.passing(some)]].tolist()
    assert sorted(let) == sorted(rows.ids([number for number in asked if number in passing]))


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    """Sixty images in four segments, some of them twice, some deleted."""
    folder = tmp_path_factory.mktemp("view")
    table = RowTable()
    table.swap([write(folder, f"s{start}", range(max(0, start - 4), start + 15)) for start in range(0, 60, 15)])
    table.add_tombstones({"s15": set(rows.ids([20, 21])), "s0": set(rows.ids([3, 12]))})
    return table.view


@pytest.mark.parametrize("label", ["", "painting", "nothing"])
@pytest.mark.parametrize("pieces", [1, 6])
@pytest.mark.parametrize("overlap", [False, True])
def test_pages_are_those_of_a_plain_sort(folder: Path, label: str, pieces: int, overlap: bool) -> None:  # noqa: FBT001
    """Also where many were added at the same time, and whether segments overlap in time or not."""
    entries = [rows.entry(number) for number in range(50)]
    entries = [segments.Entry(**{**vars(entry), "added": entry.added // 10}) for entry in entries]
    mapped_segments = []
    for piece, numbers in enumerate(np.array_split(np.arange(50), pieces)):
        some = entries[piece::pieces] if overlap else [entries[number] for number in numbers]
        path = folder / f"same-time-{piece}.arrow"
        vectors = rows.embeddings(range(len(some)), DIM)
        path.write_bytes(segments.pack(some, vectors, collection="art", model="lite", version=3))
        mapped_segments.append(MappedSegment(path))
    table = RowTable()
    table.swap([*mapped_segments, write(folder, "empty", [])])
    wanted = sorted(
        (entry for entry in entries if not label or entry.label == label), key=lambda one: (-one.added, one.id)
    )
    for limit in (1, 7, 100):
        for offset in (0, 3, 48, 200):
            total, page = table.view.latest(limit=limit, offset=offset, label=label)
            assert total == len(wanted)
            assert table.view.ids[page].tolist() == [one.id for one in wanted[offset : offset + limit]]
