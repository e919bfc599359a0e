"""Planning an import: what the columns of a table are."""

import json

import pytest

from shared.records.filters import filter_of
from shared.records.importing import KnownImage, plan_import
from shared.records.tables import Row, Table, read_table

ROWS = 1500


@pytest.mark.parametrize(
    ("last", "expected"),
    [("007", ("text", "007")), ("7", ("number", 7.0)), ("https://example.org", ("text", "https://example.org"))],
)
def test_the_type_of_a_column_is_that_of_all_its_values(last: str, expected: tuple[str, object]) -> None:
    cells = [{"id": str(number), "inventory": str(number), "late": ""} for number in range(1, ROWS)]
    cells.append({"id": str(ROWS), "inventory": last, "late": last})
    table = Table(["id", "inventory", "late"], [Row(number, row) for number, row in enumerate(cells, 1)])
    images = [KnownImage(number, f"{number}.jpg", "") for number in range(1, ROWS + 1)]
    planned = plan_import(table, "id", images, types={}, stamp=1)
    (value,) = planned.changes[-1].cells["inventory"]["csv"].values
    assert (planned.types["inventory"], value.value) == expected
    assert planned.types["late"] == ("link" if last.startswith("https") else expected[0])


@pytest.mark.parametrize(("header", "expected"), [("inventory", "007"), ("inventory:number", 7.0)])
def test_what_a_field_of_numbers_gets_stays_as_it_is_written_unless_its_column_says_number(
    header: str, expected: object
) -> None:
    table = Table(["id", header], [Row(1, {"id": "1", header: "007"})])
    planned = plan_import(table, "id", [KnownImage(1, "1.jpg", "")], types={"inventory": "number"}, stamp=1)
    (value,) = planned.changes[0].cells["inventory"]["csv"].values
    assert value.value == expected


def test_a_line_whose_fields_are_no_object_is_refused_and_the_others_are_taken() -> None:
    lines = [{"id": 1, "fields": {"title": "Mill"}}, {"id": 2, "fields": ["Mill"]}, {"id": 3, "alternatives": "Mill"}]
    table = read_table("\n".join(map(json.dumps, lines)).encode())
    images = [KnownImage(number, f"{number}.jpg", "") for number in (1, 2, 3)]
    planned = plan_import(table, "id", images, types={}, stamp=1)
    assert [change.id for change in planned.changes] == [1]
    assert [(refused.row, refused.reason.partition(",")[0]) for refused in planned.refused] == [
        (2, "`fields` is no object of fields"),
        (3, "`alternatives` is no object of fields"),
    ]


def test_a_number_that_no_float_holds_is_kept_as_text_and_refused_as_a_number() -> None:
    number = 10**309
    for header, expected in (("note", str(number)), ("note:number", None)):
        table = read_table(json.dumps({"id": 1, header: number}).encode())
        planned = plan_import(table, "id", [KnownImage(1, "1.jpg", "")], types={"note": "text"}, stamp=1)
        found = [value.value for change in planned.changes for value in change.cells["note"]["csv"].values]
        assert found == ([] if expected is None else [expected])
        assert len(planned.refused) == (expected is None)
    assert filter_of({"note": number}).criteria == {"note": (str(number),)}
