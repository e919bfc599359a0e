"""Logs waits for a server: a line when one begins and a line when it ends, however often the server is asked."""

import logging
import threading
import time
from dataclasses import dataclass

_AGAIN_S = 30.0


@dataclass
class _Wait:
    begun: float
    logged: bool


class WaitLog:
    """Logs when a loop or a kind of task begins to wait and when it goes on; any thread may use it.

    Waits are told apart by the class of the error: a second server that fails meanwhile has a line too. A wait that
    begins within 30 seconds of a logged one is not logged again: tasks of which some wait and others do not would
    otherwise write two lines a second.
    """

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log, self._what = log, what
        self._waits: dict[type[Exception], _Wait] = {}
        self._logged_at: dict[type[Exception], float] = {}
        self._lock = threading.Lock()

    def waits(self, error: Exception, *, trace: bool = False) -> None:
        """Note that an attempt failed with `error` and is made again; `trace` logs where it was raised."""
        kind, now = type(error), time.monotonic()
        with self._lock:
            if kind in self._waits:
                return
            logged = now - self._logged_at.get(kind, -_AGAIN_S) >= _AGAIN_S
            if logged:
                self._logged_at[kind] = now
            self._waits[kind] = _Wait(now, logged)
        if logged:
            self._log.warning("%s waits: %s", self._what, error, exc_info=error if trace else None)

    def goes_on(self) -> None:
        """Note that an attempt succeeded."""
        if not self._waits:
            return
        with self._lock:
            ended, self._waits = list(self._waits.values()), {}
        logged = [wait.begun for wait in ended if wait.logged]
        if logged:
            self._log.info("%s goes on after %.0f s", self._what, time.monotonic() - min(logged))
