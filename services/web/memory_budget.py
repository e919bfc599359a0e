"""A memory budget that all requests share: many large files at once make requests wait and not exhaust memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Unavailable


class Busy(Unavailable):
    """The memory budget is used up; trying again later helps."""


class MemoryBudget:
    """A fixed number of bytes; a request that needs more than is free waits until other requests release theirs."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._acquired = 0
        self._released = threading.Condition()

    def acquire(self, size: int, *, timeout_s: float = 30.0) -> int:
        """Acquire bytes, at most the whole budget; returns the number of bytes to `release`.

        Raises:
            Busy: Not enough bytes became free within the time.
        """
        size = min(size, self._capacity)
        with self._released:
            if not self._released.wait_for(lambda: self._acquired + size <= self._capacity, timeout_s):
                raise Busy("the web service is busy with large files; try again in a while")
            self._acquired += size
        return size

    def release(self, acquired: int) -> None:
        """Return bytes to the budget; `acquired` is what `acquire` returned."""
        with self._released:
            self._acquired -= acquired
            self._released.notify_all()

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold bytes of the budget during a block."""
        acquired = self.acquire(size)
        try:
            yield
        finally:
            self.release(acquired)
