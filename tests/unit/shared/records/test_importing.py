"""Planning an import: what the columns of a table are."""

import pytest

from shared.records.importing import KnownImage, plan_import
from shared.records.tables import Row, Table

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
