"""The index of records against a plain computation: filters, facets, text and order, after changes in any order."""

import gzip
import io
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shared.records import change_file
from shared.records.change_file import FieldChange, Header, ImageChange
from shared.records.filters import parse_filter
from shared.records.model import Cell, Cells, Origin, Value, said_of, values_of
from shared.records.paths import PathEntry, PathState, all_paths, known_paths, paths_in_state
from shared.records.record_index import RecordIndex
from tests.support.indexing import Died

_CREATORS = ("Rembrandt van Rijn", "Käthe Kollwitz", "葛飾北斎", "Hilma af Klint", "Anonymous")
_DATES = ("1652", "c. 1652", "1650-1660", "17th century", "1999-05-03", "undated")
_WORDS = ("mill", "Mühle", "sea", "étude", "月", "富士山")


def _changes(seed: int, images: int, stamp: int) -> list[ImageChange]:
    source = random.Random(seed)
    origins: tuple[Origin, ...] = ("csv", "edit", "exif")
    changes = []
    for image_id in sorted(source.sample(range(1, 400), images)):
        cells: Cells = {}
        for name, choices in (("creator", _CREATORS), ("date", _DATES), ("title", _WORDS), ("label", ("cat", "dog"))):
            if source.random() < 0.7:
                chosen = source.sample(choices, source.randint(0, 2))
                cells[name] = {source.choice(origins): Cell(stamp, tuple(Value(text) for text in chosen))}
        if source.random() < 0.5:
            cells["height"] = {"csv": Cell(stamp, (Value(source.randint(1, 50)),))}
        if cells:
            changes.append(ImageChange(image_id, cells))
    return changes


_ALL = [("one", _changes(1, 300, 10)), ("two", _changes(2, 200, 20)), ("three", _changes(3, 30, 30))]


@pytest.fixture(scope="module")
def plain() -> dict[int, Cells]:
    """The records by image, computed by the definition: the latest of each cell."""
    records: dict[int, Cells] = {}
    for _, changes in _ALL:
        for change in changes:
            held = records.setdefault(change.id, {})
            for name, by_origin in change.cells.items():
                held.setdefault(name, {}).update(by_origin)
    return records


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordIndex]:
    """An index to which the changes came out of order, one of them twice, while its columns were in use."""
    made = RecordIndex(tmp_path_factory.mktemp("records") / "index.sqlite")
    for name, changes in (_ALL[2], _ALL[1], _ALL[0], _ALL[1]):
        made.apply(name, [FieldChange("height", "number", 5), *changes])
        for field in ("creator", "date", "height", "label"):
            made.order(field)
            made.facet(field, None, limit=3)
    yield made
    made.close()


def _texts(cells: Cells, name: str) -> set[str]:
    return {value.text for value in values_of(cells, name) or ()}


def _found(index: RecordIndex, given: str, text: str = "") -> set[int]:
    return set(index.images[index.matching(parse_filter(given, text))].tolist()) - {0}


def test_filters_find_what_a_plain_computation_finds(index: RecordIndex, plain: dict[int, Cells]) -> None:
    for creator in _CREATORS:
        wanted = {image for image, cells in plain.items() if creator in _texts(cells, "creator")}
        assert wanted
        assert _found(index, f'{{"creator": ["{creator}"]}}') == wanted
    none = {image for image, cells in plain.items() if not _texts(cells, "creator")}
    assert _found(index, '{"creator": [""]}') == none
    dated = {image for image, cells in plain.items() if _texts(cells, "date") & {*_DATES[:4]}}
    assert _found(index, '{"date": {"from": "1655", "to": "1700"}}') == {
        image for image in dated if _texts(plain[image], "date") & {"1650-1660", "17th century"}
    }
    assert _found(index, '{"date": {"to": "1900"}}') == dated
    tall = {image for image, cells in plain.items() if any(int(text) >= 25 for text in _texts(cells, "height"))}
    assert _found(index, '{"height": {"from": 25}}') == tall
    both = {image for image in tall if "Anonymous" in _texts(plain[image], "creator")}
    assert _found(index, '{"height": {"from": 25}, "creator": ["Anonymous"]}') == both


@pytest.mark.parametrize(
    ("text", "title"), [("MUHLE", "Mühle"), ("etude", "étude"), ("月", "月"), ("富士", "富士山"), ("mi*", "mill")]
)
def test_words_are_found_without_case_and_accents(
    index: RecordIndex, plain: dict[int, Cells], text: str, title: str
) -> None:
    assert _found(index, "", text) == {image for image, cells in plain.items() if title in _texts(cells, "title")}


def test_all_words_are_needed_and_quotes_keep_them_together(index: RecordIndex, plain: dict[int, Cells]) -> None:
    rembrandt = {image for image, cells in plain.items() if _CREATORS[0] in _texts(cells, "creator")}
    assert _found(index, "", "rijn rembrandt") == rembrandt
    assert _found(index, "", '"van rijn"') == rembrandt
    assert _found(index, "", '"rijn van"') == set()
    assert _found(index, "", "!!") == set()


def test_facets_count_images_of_each_value(index: RecordIndex, plain: dict[int, Cells]) -> None:
    counts = Counter(text for cells in plain.values() for text in _texts(cells, "creator"))
    assert {facet.value: facet.count for facet in index.facet("creator", None, limit=100)} == counts
    among = np.flatnonzero(np.isin(index.images, list(range(1, 200))))
    some = Counter(text for image, cells in plain.items() if image < 200 for text in _texts(cells, "date"))
    assert {facet.value: facet.count for facet in index.facet("date", among, limit=100)} == some
    assert index.facet("date", among, limit=1)[0].count == max(some.values())


def test_order_goes_by_value_and_type(index: RecordIndex, plain: dict[int, Cells]) -> None:
    order = index.order("height")
    documents = np.flatnonzero(order < np.iinfo(np.int32).max)
    heights = [int(min(_texts(plain[int(index.images[document])], "height"))) for document in documents]
    assert [heights[place] for place in np.argsort(order[documents], kind="stable")] == sorted(heights)


def test_a_date_that_cannot_be_read_has_no_place_in_the_order(index: RecordIndex, plain: dict[int, Cells]) -> None:
    order = index.order("date")
    placed = {int(index.images[document]) for document in np.flatnonzero(order < np.iinfo(np.int32).max)}
    assert placed == {image for image, cells in plain.items() if _texts(cells, "date") - {"undated"}}
    assert any(_texts(cells, "date") == {"undated"} for cells in plain.values())


def test_labels_have_one_order_whether_records_or_rows_say_them(index: RecordIndex, plain: dict[int, Cells]) -> None:
    by_record, by_row = index.label_order(["", "Äpfel", "cow", "dog", "zebu"])
    none = np.iinfo(np.int32).max
    places = {label: place for place, label in enumerate(["Äpfel", "cat", "cow", "dog", "zebu"])}
    assert by_row.tolist() == [none, *(places[label] for label in ("Äpfel", "cow", "dog", "zebu"))]
    for document, image in enumerate(index.images[1:].tolist(), 1):
        said = values_of(plain[image], "label")
        wanted = -1 if said is None else min((places[value.text] for value in said), default=none)
        assert by_record[document] == wanted


def test_labels_of_records_are_told_from_those_without(index: RecordIndex, plain: dict[int, Cells]) -> None:
    said, cats = index.having_label(["cat"])
    assert set(index.images[said].tolist()) == {
        image for image, cells in plain.items() if values_of(cells, "label") is not None
    }
    assert set(index.images[cats].tolist()) == {
        image for image, cells in plain.items() if "cat" in _texts(cells, "label")
    }


def test_a_merge_of_changes_says_what_they_say(plain: dict[int, Cells]) -> None:
    files = []
    for _, changes in _ALL:
        file = io.BytesIO()
        change_file.write(file, Header(), [], changes)
        files.append(change_file.read(io.BytesIO(file.getvalue()), place="a change"))
    fields, images = change_file.merged(files)
    assert {image.id: image.cells for image in images} == plain
    assert fields == []


def test_what_is_erased_is_gone_and_does_not_come_back(tmp_path: Path) -> None:
    index = RecordIndex(tmp_path / "index.sqlite")
    cells: Cells = {"title": {"edit": Cell(10, (Value("Secret"),))}}
    index.apply("one", [ImageChange(7, cells)])
    assert _found(index, "", "secret") == {7}
    index.apply("two", [ImageChange(7, erased=15)])
    index.apply("three", [ImageChange(7, cells)])
    assert (_found(index, "", "secret"), index.records([7])[7].cells, index.facet("title", None, limit=9)) == (
        set(),
        {},
        [],
    )
    index.close()
    kept = (tmp_path / "index.sqlite").read_bytes()
    assert b"Secret" not in kept
    assert b"secret" not in kept


def test_a_change_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    index = RecordIndex(tmp_path / "index.sqlite")
    index.apply("before", [ImageChange(1, {"creator": {"csv": Cell(10, (Value("Ann"),))}})])
    last = 4500

    def seen() -> tuple[int, int, list[str], int]:
        facets = index.facet("creator", None, limit=9)
        return len(_found(index, "", "new")), sum(f.count for f in facets), list(index.field_types()), index.stamp

    def table(dies_at: int) -> Iterator[FieldChange | ImageChange]:
        yield FieldChange("height", "number", 20)
        for image_id in range(1, last + 1):
            if image_id % 1100 == 0:
                assert seen() == (0, 1, ["creator"], 10)
            if image_id == dies_at:
                raise Died
            cells: Cells = {
                "creator": {"csv": Cell(20, (Value("Ben"), Value(f"Number {image_id % 3}")))},
                "title": {"csv": Cell(20, (Value("A new work"),))},
                "height": {"csv": Cell(20, (Value(image_id),))},
            }
            yield ImageChange(image_id, cells)

    for dies_at in (1, 2500, last):
        with pytest.raises(Died):
            index.apply("table", table(dies_at))
        assert seen() == (0, 1, ["creator"], 10)
        index.close()
        index = RecordIndex(tmp_path / "index.sqlite")
        assert index.applied() == {"before"}
        assert seen() == (0, 1, ["creator"], 10)
    index.apply("table", table(0))
    assert seen() == (last, 2 * last, ["creator", "height", "title"], 20)
    assert _found(index, '{"height": {"from": "4490"}, "creator": ["Number 0"]}') == {4491, 4494, 4497, 4500}
    index.close()


def test_an_edit_without_values_hides_the_others() -> None:
    by_origin: dict[Origin, Cell] = {"csv": Cell(1, (Value("a"),)), "exif": Cell(2, (Value("b"),)), "edit": Cell(3, ())}
    assert [said.origin for said in said_of(by_origin)] == ["edit", "csv", "exif"]
    assert values_of({"title": by_origin}, "title") == ()


def test_of_each_path_the_latest_counts_in_any_order_and_what_is_erased_is_gone(tmp_path: Path) -> None:
    def said(stamp: int, **states: PathState) -> ImageChange:
        entries = {f"{path}.jpg": PathEntry(stamp, state, "class") for path, state in states.items()}
        return ImageChange(7, paths={"/photos": entries})

    changes = [said(10, a="present", b="present"), said(20, a="vanished"), said(30, c="present"), said(15, a="present")]
    for place, order in enumerate(itertools.permutations(changes)):
        index = RecordIndex(tmp_path / f"{place}.sqlite")
        for number, change in enumerate(order):
            file = io.BytesIO()
            change_file.write(file, Header(), [], [change])
            file.seek(0)
            index.apply(str(number), change_file.read(file, place="here"))
        known = known_paths(index.records([7])[7].paths)
        assert all_paths("a.jpg", known) == ["b.jpg", "c.jpg"]
        assert all_paths("d.jpg", known) == ["d.jpg", "b.jpg", "c.jpg"]
        assert paths_in_state(known, "vanished") == ["a.jpg"]
        assert (index.has_paths, index.stamp) == (True, 30)
        index.apply("erasing", [ImageChange(7, erased=25)])
        assert [path.path for path in known_paths(index.records([7])[7].paths)] == ["c.jpg"]
        index.close()


def test_a_change_without_paths_that_an_earlier_version_wrote_is_read() -> None:
    file = io.BytesIO(
        gzip.compress(b'{"format": 1, "inputs": []}\n')
        + gzip.compress(b'{"id": 42, "cells": {"title": {"csv": [5, ["A"]]}}}\n')
    )
    assert list(change_file.read(file, place="here")) == [ImageChange(42, {"title": {"csv": Cell(5, (Value("A"),))}})]
