"""Pauses that grow while a server stays away: waiting costs little, and a server that restarts is found soon."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from shared.errors import IndexLost, Misconfigured, Unavailable

Result = TypeVar("Result")


class BackOff:
    """Gives pauses that double from `first_s` to `cap_s` seconds, each shortened by up to a fifth at random."""

    def __init__(self, *, first_s: float = 0.25, cap_s: float = 5.0) -> None:
        self._first_s, self._cap_s = first_s, cap_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return how many seconds to pause now."""
        pause, self._next_s = self._next_s, min(self._cap_s, 2 * self._next_s)
        return pause * random.uniform(0.8, 1.0)  # noqa: S311 -- that many processes do not come back at once

    def reset(self) -> None:
        """Begin anew: what was waited for is back."""
        self._next_s = self._first_s


def retry_while_away(call: Callable[[], Result], patience_s: float) -> Result:
    """Make a call again while a server is away, for so many seconds: one that restarts is away for some.

    What no waiting mends, as a wrong password, is raised at once.

    Raises:
        Unavailable: The server is away for too long.
    """
    until, back_off = time.monotonic() + patience_s, BackOff()
    while True:
        try:
            return call()
        except (IndexLost, Misconfigured):
            raise
        except Unavailable:
            if time.monotonic() > until:
                raise
            time.sleep(back_off.next_s())
