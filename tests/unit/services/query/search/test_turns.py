"""Searches that meet are computed one after the other, and none waits for long behind one that hangs."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from services.query.search.turns import Turns
from tests.support.eventually import PATIENCE_S


def test_one_thread_at_a_time_has_the_turn() -> None:
    turns, inside, most = Turns(PATIENCE_S), [0], [0]

    def search() -> None:
        for _ in range(200):
            with turns.turn():
                inside[0] += 1
                time.sleep(0)  # as numpy does, it lets go of the interpreter
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(search) for _ in range(4)]:
            done.result(PATIENCE_S)
    assert most == [1]


def test_who_has_waited_for_long_goes_on_without_the_turn_and_leaves_it_to_whoever_has_it() -> None:
    turns, gone_on = Turns(0.01), threading.Event()

    def search() -> None:
        with turns.turn():
            gone_on.set()

    with ThreadPoolExecutor(1) as pool:
        with turns.turn():
            pool.submit(search).result(PATIENCE_S)
            assert gone_on.is_set()
            assert turns._lock.locked()
        assert not turns._lock.locked()
