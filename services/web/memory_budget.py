"""A budget of memory that requests share, so that many large files at once cost time and not the process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Unavailable


class Busy(Unavailable):
    """The service has as much in hand as it can hold; trying again later helps."""


class Budget:
    """Lends bytes out of a fixed number; who wants more than there are left waits for others to give theirs back."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lent = 0
        self._changed = threading.Condition()

    def take(self, wanted: int, *, timeout_s: float = 30.0) -> int:
        """Take up to the whole budget; returns the number of bytes to `give` back.

        Raises:
            Busy: There was not enough left within the time.
        """
        wanted = min(wanted, self._size)
        with self._changed:
            if not self._changed.wait_for(lambda: self._lent + wanted <= self._size, timeout_s):
                raise Busy("the web service is busy with large files; try again in a while")
            self._lent += wanted
        return wanted

    def give(self, taken: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._lent -= taken
            self._changed.notify_all()

    @contextmanager
    def holding(self, wanted: int) -> Iterator[None]:
        """Take bytes for the time of a block."""
        taken = self.take(wanted)
        try:
            yield
        finally:
            self.give(taken)
