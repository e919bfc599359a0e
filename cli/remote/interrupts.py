"""Puts Ctrl-C off while a request is answered whose answer is needed to undo it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_deferred() -> Iterator[Callable[[], None]]:
    """Put SIGINT off over the block; gives the function that raises `KeyboardInterrupt` afterwards if one came."""
    came: list[int] = []

    def raise_deferred() -> None:
        if came:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield raise_deferred
    finally:
        signal.signal(signal.SIGINT, before)
