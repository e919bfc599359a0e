"""Waits for events: by looking again and again, with a limit that a busy machine does not reach."""

import time
from collections.abc import Callable
from typing import TypeVar

# Long enough for a machine on which everything takes ten times as long: whoever reaches it waits for what never comes.
PATIENCE_S = 600.0

Seen = TypeVar("Seen")


def eventually(
    look: Callable[[], Seen],
    *,
    until: Callable[[Seen], bool] = bool,
    timeout_s: float = PATIENCE_S,
    interval_s: float = 0.05,
    trying: type[Exception] | tuple[type[Exception], ...] = (),
    explain: Callable[[], str] | None = None,
) -> Seen:
    """Look until what is seen is as wanted, and return it.

    Args:
        look: Returns what is to be seen at the moment.
        until: Says whether that is as wanted; without it, anything true is.
        timeout_s: How long to look before giving up.
        interval_s: How long to wait between two looks.
        trying: Exceptions of `look` that mean "not yet".
        explain: Is asked for more to say when the wait was in vain, such as the log of the process waited for.

    Raises:
        AssertionError: It did not come in time; the message says what was seen last.
    """
    end = time.monotonic() + timeout_s
    while True:
        try:
            seen = look()
            if until(seen):
                return seen
            last = f"last seen: {seen!r}"
        except trying as error:
            last = f"last raised: {error!r}"
        if time.monotonic() >= end:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain; {last}\n{explain() if explain else ''}".rstrip())
        time.sleep(interval_s)
