"""Signals that ask a process to stop."""

import signal
import time
from collections.abc import Callable

_POLL_S = 0.05


class StopSignal:
    """Notes SIGTERM, SIGINT and SIGHUP. Make it in the main thread.

    The handler only sets a flag, and calls `wake` if it is given, which must be safe in a signal handler. An Event
    would not do: its lock is not reentrant, and a second signal that comes while the first is being handled would wait
    for it for ever.
    """

    def __init__(self, wake: Callable[[], None] | None = None) -> None:
        self.requested = False
        self._wake = wake
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until a stop is requested, for `seconds` at the most; returns whether it is."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self.requested and (until is None or time.monotonic() < until):
            time.sleep(_POLL_S)
        return self.requested

    def _note(self, *_: object) -> None:
        self.requested = True
        if self._wake is not None:
            self._wake()
