"""Times of several calls, measured in turns: what slows the machine down for a while slows all of them down."""

import statistics
import time
from collections.abc import Callable, Mapping

Call = Callable[[int], object]
"""A call that is measured; it is given the number of the call."""


def medians_in_turns(calls: Mapping[str, Call], *, repetitions: int, each: int) -> dict[str, list[float]]:
    """Return the median seconds of each call, one for each repetition.

    In a repetition every call is made `each` times in a row, after two that do not count. The next begins with another.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for repetition in range(repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            call, start = calls[name], repetition * each
            for number in range(2):
                call(start + number)
            found[name].append(statistics.median(_seconds(call, start + number) for number in range(each)))
    return found


def _seconds(call: Call, number: int) -> float:
    started = time.perf_counter()
    call(number)
    return time.perf_counter() - started
