"""A sample of a collection comes from evenly spaced places of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.query.replica.view import spread


@pytest.mark.parametrize(
    ("count", "limit", "places", "wanted"),
    [
        (100, 6, 3, [99, 98, 50, 49, 1, 0]),
        (100, 5, 4, [99, 66, 33, 0]),
        (100, 2, 1, [99, 98]),
        (3, 8, 4, [2, 1, 0]),
        (0, 4, 2, []),
    ],
)
def test_the_first_place_is_the_end_and_the_last_one_the_beginning(
    count: int, limit: int, places: int, wanted: list[int]
) -> None:
    assert spread(np.arange(count), limit=limit, places=places).tolist() == wanted


@given(st.integers(0, 50), st.integers(1, 20), st.data())
def test_no_row_comes_twice_and_all_come_where_there_are_few(count: int, places: int, data: st.DataObject) -> None:
    limit = data.draw(st.integers(places, 60))
    rows = np.arange(count) * 3 + 1
    found = spread(rows, limit=limit, places=places).tolist()
    assert len(set(found)) == len(found) <= limit
    assert set(found) <= set(rows.tolist())
    assert len(found) >= min(count, limit // places)
