"""Threads that share a task: a search that waits for memory waits less where other cores wait for a part of it."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

SIZE = os.cpu_count() or 1

_helpers = ThreadPoolExecutor(SIZE, thread_name_prefix="helper")


def run_in_parallel(parts: Sequence[Callable[[], None]]) -> None:
    """Run all parts, the first on this thread, each other on a helper, or on this thread if none took it meanwhile.

    So a task never waits behind those of other requests.
    """
    helped = [(_helpers.submit(part), part) for part in parts[1:]]
    try:
        for part in parts[:1]:
            part()
    finally:
        for future, _ in reversed(helped):
            future.cancel()
    for future, part in helped:
        if future.cancelled():
            part()
        else:
            future.result()
