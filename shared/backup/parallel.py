"""Calls a function for many items on a few threads, without holding all of the calls in memory."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AT_A_TIME = 1000


def each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    threads: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Yield the results in the order of the items; `on_progress` takes how many there are, of how many."""
    with ThreadPoolExecutor(threads, thread_name_prefix="backup") as pool:
        for start in range(0, len(items), _AT_A_TIME):
            piece = pool.map(function, items[start : start + _AT_A_TIME])
            for done, result in enumerate(piece, start=start + 1):
                yield result
                if on_progress is not None:
                    on_progress(done, len(items))
