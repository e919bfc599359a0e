"""Threads that share a task: every part is run once, and a fault in one is not lost."""

import threading
from collections import Counter
from functools import partial

import pytest

from services.query.search import parallel
from services.query.search.parallel import run_in_parallel
from tests.support.eventually import PATIENCE_S


def test_every_part_is_run_once_even_while_all_helpers_are_busy() -> None:
    free = threading.Event()
    busy = [parallel._helpers.submit(free.wait) for _ in range(parallel.THREADS)]
    done: Counter[int] = Counter()
    try:
        run_in_parallel([partial(done.update, [part]) for part in range(7)])
        assert done == Counter(range(7))  # by this thread: nobody else could
    finally:
        free.set()
        for future in busy:
            future.result()
    run_in_parallel([partial(done.update, [part]) for part in range(7)])
    assert done == Counter([*range(7), *range(7)])
    run_in_parallel([])


def test_parts_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def meet() -> None:
        both.wait()

    run_in_parallel([meet, meet])


@pytest.mark.parametrize("wrong", [0, 1, 5])
def test_a_fault_in_any_part_is_raised(wrong: int) -> None:
    def run(part: int) -> None:
        if part == wrong:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_in_parallel([partial(run, part) for part in range(6)])
