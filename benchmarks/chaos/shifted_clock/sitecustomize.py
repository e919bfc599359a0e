"""Shifts the time of day that `time.time` tells a Python process; its monotonic clock is left alone, as in life.

Python imports this module at its start, where the folder is on PYTHONPATH. `benchmarks.chaos.clocks` writes the file
that the environment variable names: by how many seconds the clock is ahead.

`datetime.now` stays right: it asks the kernel, and a class in its place is refused by libraries in Rust. libfaketime
would shift it too. But Python sleeps by `clock_nanosleep` until a moment, and with version 0.9.10 that fails.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

OFFSET_VARIABLE = "CHAOS_CLOCK_OFFSET"
_LOOK_S = 0.5

_time, _time_ns, _monotonic = time.time, time.time_ns, time.monotonic
_offset_s, _next_look = 0, 0.0


def _offset() -> int:
    """Return by how many seconds the clock is ahead."""
    global _offset_s, _next_look  # noqa: PLW0603 -- there is one clock
    now = _monotonic()
    if now >= _next_look:
        _next_look = now + _LOOK_S
        with suppress(OSError, ValueError):  # it goes on as it was
            _offset_s = int(Path(os.environ[OFFSET_VARIABLE]).read_text())
    return _offset_s


if OFFSET_VARIABLE in os.environ:
    time.time = lambda: _time() + _offset()
    time.time_ns = lambda: _time_ns() + _offset() * 10**9
