"""How many processes a query service has, if no setting says so: as many as there are cores for it, up to four.

Each takes some memory of its own, so more are a choice of whoever has that memory.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

MOST_BY_ITSELF: Final = 4
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def process_count(setting: int) -> int:
    """Return the number of processes for `ARTSEEK_QUERY_PROCESSES`; 0: one for each core, up to `MOST_BY_ITSELF`."""
    if setting:
        return setting
    # Elsewhere, the kernel does not spread connections over the processes that listen at one port.
    return min(MOST_BY_ITSELF, usable_cores()) if sys.platform == "linux" else 1


def usable_cores(quota: Path = _QUOTA) -> int:
    """Return on how many cores this process may run at a time; a container may have fewer than its machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        allowed, period = quota.read_text("ascii").split()
        if allowed != "max":
            cores = min(cores, int(allowed) // int(period))
    return max(1, cores)
