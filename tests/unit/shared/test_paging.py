"""Reading a list in pages while others take items out of it and put items onto it."""

from hypothesis import given
from hypothesis import strategies as st

from shared.paging import all_items

_KEYS = st.integers(0, 40)
_STEPS = st.lists(st.tuples(st.sets(_KEYS, max_size=12), st.sets(_KEYS, max_size=4)), max_size=20)


@given(st.sets(_KEYS), _STEPS, st.integers(2, 5))
def test_what_stays_on_the_list_is_read_once_whatever_goes_and_comes(
    start: set[int], steps: list[tuple[set[int], set[int]]], limit: int
) -> None:
    held, stayed, ever = set(start), set(start), set(start)
    left = iter(steps)

    def read(offset: int) -> list[int]:
        nonlocal held, stayed
        page = sorted(held)[offset : offset + limit]
        gone, come = next(left, (set(), set()))
        held = held - gone | come
        stayed -= gone
        ever.update(come)
        return page

    found = list(all_items(read, lambda item: item, limit=limit))
    assert len(found) == len(set(found))
    assert stayed <= set(found) <= ever


def test_a_list_that_is_emptied_ends() -> None:
    pages = iter([[1, 2, 3], [], []])
    assert list(all_items(lambda _: next(pages), lambda item: item, limit=3)) == [1, 2, 3]
