"""Calls a function when something changes in a folder, and from time to time anyway."""

import threading
from collections.abc import Callable
from pathlib import Path

from watchfiles import watch as changes_of

_GROWING_S = 5.0  # after which files that grew are looked at again
_DEBOUNCE_MS = 2000


def watch(folder: Path, run: Callable[[], bool], *, every_s: float, stop: threading.Event | None = None) -> None:
    """Call `run` now, whenever something has changed, and at least every so many seconds, until `stop` is set.

    `run` returns whether it is to be called again soon. A folder that is not there, or whose file system tells no
    changes, is looked at from time to time alone.
    """
    stopped = stop or threading.Event()
    while not stopped.is_set():
        pause_s = min(every_s, _GROWING_S) if run() else every_s
        if not _wait(folder, pause_s, stopped):
            stopped.wait(pause_s)


def _wait(folder: Path, pause_s: float, stopped: threading.Event) -> bool:
    """Wait until something changes, or for so many seconds; returns False where changes cannot be followed."""
    try:
        for _ in changes_of(
            folder,
            debounce=_DEBOUNCE_MS,
            stop_event=stopped,
            rust_timeout=int(pause_s * 1000),
            yield_on_timeout=True,
            watch_filter=None,
            raise_interrupt=True,
        ):
            return True
    except OSError:  # it is not there at the moment, or there are too many folders to follow
        return False
    return True
