"""Tables of records as files: whatever text a value is, it comes out of a file as it went in."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from shared.records.tables import csv_lines, join, read_table, split

# As records have them: no control characters but tabs and ends of lines, and no space around.
CONTROL = "".join(map(chr, [*range(9), 11, 12, *range(14, 32), 127]))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=CONTROL)).map(str.strip).filter(bool)
VALUES = st.lists(TEXTS, max_size=3)
SEPARATORS = ["line\u2028paragraph\u2029end", "next\x85line", "two\nlines", "two\r\nlines", "two\rlines"]


@given(VALUES)
@example(SEPARATORS)
@example(["=1+1", "'=1", "'", "a|b\\", "\\", '"quoted", or not'])
def test_a_cell_of_csv_has_the_values_that_were_put_into_it(values: list[str]) -> None:
    table = read_table("".join(csv_lines(["filename", "title"], [["a.jpg", join(values)]])).encode())
    (row,) = table.rows
    assert split(row.cells["title"]) == values


@given(VALUES)
@example(SEPARATORS)
def test_a_line_of_json_has_the_values_that_were_put_into_it(values: list[str]) -> None:
    line = {"filename": "a.jpg", "title": values}
    data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for _ in range(2)).encode()
    assert [row.cells for row in read_table(data).rows] == [line, line]
