"""Turns: searches by the index that meet in one process are computed one after the other.

numpy lets go of the interpreter in almost every call. Threads that compute at the same time take it from each other
dozens of times in a search, and each time one of them sleeps and is woken: together that took as long as the search.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LONGEST_WAIT_S: Final = 0.1  # whoever has the turn may wait for a server that does not answer


class Turns:
    """Gives one thread at a time the turn, or after a while more of them."""

    def __init__(self, longest_wait_s: float = _LONGEST_WAIT_S) -> None:
        self._lock, self._longest_wait_s = threading.Lock(), longest_wait_s

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the turn during the block; who has waited for long goes on without."""
        has_it = self._lock.acquire(timeout=self._longest_wait_s)
        try:
            yield
        finally:
            if has_it:
                self._lock.release()
