"""What is made ahead comes in order, and no more of it than is allowed is there at a time."""

import threading
import weakref

import pytest

from shared.look_ahead import made_ahead
from tests.support.eventually import PATIENCE_S, eventually


class Made:
    """Something large."""


def test_everything_comes_in_order_however_long_each_takes() -> None:
    later = threading.Event()

    def make(number: int) -> int:
        if number == 0:
            assert later.wait(PATIENCE_S)
        if number == 2:
            later.set()
        return number**2

    assert list(made_ahead(make, range(10), threads=3, name="made")) == [(number, number**2) for number in range(10)]
    assert list(made_ahead(make, [], threads=3, name="made")) == []


def test_no_more_is_made_than_is_allowed_and_what_was_taken_is_held_no_longer() -> None:
    begun, made = [0], list[weakref.ref[Made]]()

    def make(_: int) -> Made:
        begun[0] += 1
        found = Made()
        made.append(weakref.ref(found))
        return found

    taken = made_ahead(make, range(10), threads=2, name="made")
    for number in range(6):
        first = next(taken)
        eventually(lambda number=number: begun[0] == number + 3)  # type: ignore[misc]
        del first
        eventually(lambda: sum(ref() is not None for ref in made) == 2)


def test_what_cannot_be_made_fails_where_it_would_have_come() -> None:
    def make(number: int) -> float:
        return 1 / (number - 2)

    taken = made_ahead(make, range(5), threads=2, name="made")
    assert [next(taken)[0], next(taken)[0]] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(taken)
