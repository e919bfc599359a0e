"""The processes of a running system, by the names of its parts."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from shared.errors import NotFound

# A part, and what is in its command line.
_PARTS = {
    "embedder": "services.embedder.app",
    "indexer": "services.indexer.app",
    "maintenance": "services.maintenance.app",
    "evaluator": "services.evaluator.app",
    "query": "services.query",
    "web": "services.web",
    "model-server": "services.model_server",
    "valkey-index": "valkey-index/valkey.conf",
    "valkey-broker": "valkey-broker/valkey.conf",
    "objects": "-volume.id=artseek",
}
WORKERS = ("embedder", "indexer", "maintenance", "evaluator")
TARGETS = (*_PARTS, *(f"{part} child" for part in (*WORKERS, "query")))
"""The parts, and the processes in which workers do their tasks and the query service answers."""

_DEATH_S = 30.0


def part_of(target: str) -> str:
    """Return the part that a process belongs to."""
    return target.removesuffix(" child")


class Servers:
    """Finds and signals the processes below the local system's."""

    def __init__(self, pid: int) -> None:
        self._launcher = psutil.Process(pid)

    def find(self, target: str) -> list[psutil.Process]:
        """Return the processes of a part: its main process, or with ``child`` those below it.

        Raises:
            NotFound: There is none: it has died, and is not started again yet.
        """
        for process in self._launcher.children():
            with suppress(psutil.Error):
                if any(_PARTS[part_of(target)] in word for word in process.cmdline()):
                    found = process.children() if target.endswith("child") else [process]
                    if found:
                        return found
        raise NotFound(f"no process of {target} is there")

    def tree(self, target: str) -> list[psutil.Process]:
        """Return all processes of a part."""
        found = self.find(target)
        with suppress(psutil.Error):
            found += [child for process in found for child in process.children(recursive=True)]
        return found

    @contextmanager
    def not_started_again(self) -> Iterator[None]:
        """Keep the local system from starting what dies during the block."""
        self._launcher.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._launcher.send_signal(signal.SIGCONT)


def send(processes: list[psutil.Process], number: signal.Signals) -> int:
    """Signal processes; returns how many were there."""
    count = 0
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
            count += 1
    return count


def wait_until_dead(processes: list[psutil.Process]) -> None:
    """Wait until killed processes do nothing any more; their parent, if it is stopped, has not taken note of it.

    Raises:
        psutil.TimeoutExpired: One of them goes on.
    """
    until = time.monotonic() + _DEATH_S
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > until:
                    raise psutil.TimeoutExpired(_DEATH_S, process.pid)
                time.sleep(0.01)
