"""The directory: whatever was inserted is found, of many rows of an image the live one, by readers of any age."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.query.replica.id_index import IdIndex, distinct
from tests.support.examples import examples

ids = st.one_of(st.integers(1, 40), st.integers(1, 2**53 - 1), st.integers(0, 100).map(lambda step: 1 + step * 2**20))


@given(st.lists(ids, max_size=200), st.data())
@examples(150)
def test_look_ups_are_those_of_a_plain_dictionary(held: list[int], data: st.DataObject) -> None:
    column = np.array(held, dtype=np.int64)
    directory = IdIndex(len(held))
    cut = data.draw(st.integers(0, len(held)))
    inserted = data.draw(st.sets(st.sampled_from(range(len(held))))) if held else set()
    for part in (range(cut), range(cut, len(held))):
        some = np.array([row for row in part if row in inserted], dtype=np.int64)
        directory.insert(column[some], some)
    asked = np.array(data.draw(st.lists(st.one_of(ids, st.sampled_from(held or [1])), max_size=50)), dtype=np.int64)
    for count in (cut, len(held)):  # a reader from before the second part, and one from after it
        live = np.zeros(count, dtype=np.bool_)
        for image in set(held[:count]):
            rows = [row for row in range(count) if held[row] == image and row in inserted]
            if rows:
                live[data.draw(st.sampled_from(rows))] = data.draw(st.booleans())
        expected = {held[row]: row for row in range(count) if live[row]}
        found = directory.find(asked, column[:count], live)
        assert found.tolist() == [expected.get(image, -1) for image in asked.tolist()]
        assert [directory.find_one(image, column[:count], live) for image in asked.tolist()] == found.tolist()
        wanted = sorted(set(asked.tolist()))
        of = directory.rows_of(np.array(wanted, dtype=np.int64), column[:count])
        assert sorted(of.tolist()) == [row for row in range(count) if row in inserted and held[row] in wanted]


@pytest.mark.parametrize("kind", ["spread", "sequential", "every thousandth"])
def test_a_look_up_of_many_takes_few_steps(kind: str) -> None:
    """So each of them is a few dozen operations on whole arrays, however large the collection is."""
    count = 200_000
    column = {
        "spread": np.random.default_rng(0).choice(2**53, count, replace=False),
        "sequential": np.arange(1, count + 1),
        "every thousandth": np.arange(1, count + 1) * 1000,
    }[kind].astype(np.int64)
    directory = IdIndex(count)
    directory.insert(column, np.arange(count))
    steps = 0

    class Counted(np.ndarray):
        """The live marks, which each step of a look-up asks once."""

        def take(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
            nonlocal steps
            steps += 1
            return np.asarray(self).take(*arguments, **options)  # type: ignore[call-overload]

    live = np.ones(count, dtype=np.bool_).view(Counted)
    assert np.array_equal(directory.find(column[::-1], column, live), np.arange(count)[::-1])
    assert steps <= 25


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_distinct_values_are_those_of_a_set(values: list[int]) -> None:
    assert distinct(np.array(values, dtype=np.int64)).tolist() == sorted(set(values))
