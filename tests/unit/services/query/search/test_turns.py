"""Searches that meet are computed one after the other or together, and none waits for long behind one that hangs."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from services.query.search.turns import Turns
from tests.support.eventually import PATIENCE_S, eventually


class Held:
    """Turns that one search holds, while others come to wait for them."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.turns: Turns[int, int] = Turns(PATIENCE_S)
        self.pool, self.companies = pool, list[list[int]]()
        self._has_turn, self._goes_on = threading.Event(), threading.Event()
        self.first = pool.submit(self.turns.search, 0, self._hold)
        assert self._has_turn.wait(PATIENCE_S)
        self._waiting = 0

    def come(self, asked: int, kind: Hashable, compute: Callable[[Sequence[int]], list[int]]) -> "Future[int]":
        """Have a search wait behind those that came before."""
        search = self.pool.submit(self.turns.search, asked, compute, kind=kind)
        self._waiting += 1
        eventually(lambda: len(self.turns._waiting) == self._waiting)
        return search

    def let_go(self) -> None:
        """End the search that holds the turn."""
        self._goes_on.set()
        assert self.first.result(PATIENCE_S) == 0

    def squares(self, company: Sequence[int]) -> list[int]:
        """Compute searches, and note which came together."""
        self.companies.append(list(company))
        return [asked**2 for asked in company]

    def _hold(self, company: Sequence[int]) -> list[int]:
        self._has_turn.set()
        assert self._goes_on.wait(PATIENCE_S)
        return self.squares(company)


def test_one_thread_at_a_time_has_the_turn() -> None:
    turns, inside, most = Turns[int, int](PATIENCE_S), [0], [0]

    def compute(company: Sequence[int]) -> list[int]:
        inside[0] += 1
        time.sleep(0)  # as numpy does, it lets go of the interpreter
        most[0] = max(most[0], inside[0])
        inside[0] -= 1
        return [asked + 1 for asked in company]

    def search(kind: Hashable) -> list[int]:
        return [turns.search(asked, compute, kind=kind) for asked in range(200)]

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(search, kind) for kind in (None, None, "one", "one", "one", "other")]:
            assert done.result(PATIENCE_S) == list(range(1, 201))
    assert most == [1]
    assert not turns._taken


def test_those_alike_that_wait_are_computed_together_and_each_gets_its_own_answer() -> None:
    with ThreadPoolExecutor(8) as pool:
        held = Held(pool)
        asked = [(2, "one"), (3, "other"), (4, "one"), (5, None), (6, "one"), (7, None)]
        searches = [held.come(number, kind, held.squares) for number, kind in asked]
        held.let_go()
        assert [search.result(PATIENCE_S) for search in searches] == [number**2 for number, _ in asked]
    assert held.companies == [[0], [2, 4, 6], [3], [5], [7]]


def test_a_company_is_no_larger_than_makes_its_first_wait() -> None:
    with ThreadPoolExecutor(21) as pool:
        held = Held(pool)
        searches = [held.come(number, "alike", held.squares) for number in range(1, 21)]
        held.let_go()
        assert [search.result(PATIENCE_S) for search in searches] == [number**2 for number in range(1, 21)]
    assert held.companies == [[0], list(range(1, 17)), list(range(17, 21))]


def test_each_of_a_company_fails_as_the_one_does_that_computes_it_and_the_next_has_the_turn() -> None:
    def refuse(company: Sequence[int]) -> list[int]:
        raise ValueError(f"cannot search for {len(company)}")

    with ThreadPoolExecutor(4) as pool:
        held = Held(pool)
        failing = [held.come(number, "alike", refuse) for number in (1, 2)]
        after = held.come(3, None, held.squares)
        held.let_go()
        for search in failing:
            with pytest.raises(ValueError, match="cannot search for 2"):
                search.result(PATIENCE_S)
        assert after.result(PATIENCE_S) == 9


def test_who_has_waited_for_long_goes_on_without_the_turn_and_leaves_it_to_whoever_has_it() -> None:
    turns, goes_on, has_turn = Turns[int, int](0.01), threading.Event(), threading.Event()

    def hold(company: Sequence[int]) -> list[int]:
        has_turn.set()
        assert goes_on.wait(PATIENCE_S)
        return list(company)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(turns.search, 1, hold, kind="alike")
        assert has_turn.wait(PATIENCE_S)
        assert turns.search(2, list, kind="alike") == 2
        assert turns._taken
        assert not turns._waiting
        goes_on.set()
        assert holding.result(PATIENCE_S) == 1
    assert not turns._taken
