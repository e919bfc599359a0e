"""Runs the parts of a computation on several threads.

A search that waits for memory waits less if other cores wait for a part of it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from shared.usable_cores import usable_cores

THREADS = usable_cores()

_helpers = ThreadPoolExecutor(THREADS, thread_name_prefix="helper")


def run_in_parallel(parts: Sequence[Callable[[], None]]) -> None:
    """Run all parts: the first on this thread, the others on helper threads.

    A part that no helper has begun by the time the first is done runs on this thread. So a computation never waits
    behind those of other requests.
    """
    submitted = [(_helpers.submit(part), part) for part in parts[1:]]
    try:
        for part in parts[:1]:
            part()
    finally:
        for future, _ in reversed(submitted):
            future.cancel()
    for future, part in submitted:
        if future.cancelled():
            part()
        else:
            future.result()
