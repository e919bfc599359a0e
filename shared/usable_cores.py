"""On how many cores a process may run at a time: a container, or a unit of systemd, may have fewer than its machine."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


def usable_cores(groups: Path = _GROUPS, own: Path = _OWN) -> int:
    """Return the number of cores by the process's affinity and the quotas of its control groups; 1 at the least.

    Args:
        groups: Where the control groups are mounted.
        own: The file that says in which of them this process is.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_quotas(groups, own)]))


def _quotas(groups: Path, own: Path) -> Iterator[int]:
    """Yield the whole cores of each quota that holds for this process: of its groups, and of those that they are in."""
    try:
        lines = own.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            inner = str(group).lstrip("/")
            with suppress(OSError, ValueError):  # no quota, or a group that is not to be seen from inside a container
                if number == "0":  # version 2 of control groups
                    allowed, period = (groups / inner / "cpu.max").read_text("ascii").split()
                elif "cpu" in controllers.split(","):
                    folder = groups / "cpu" / inner
                    allowed, period = (
                        (folder / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period")
                    )
                else:
                    break
                if int(allowed) > 0:  # "max" is no number; -1 stands for it in version 1
                    yield int(allowed) // int(period)
