"""The processes of a running system, by the names of its parts."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

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
TARGETS = (*_PARTS, *(f"{worker} child" for worker in WORKERS))
"""The parts, and the processes in which workers do their tasks."""


def part_of(target: str) -> str:
    """Return the part that a process belongs to."""
    return target.removesuffix(" child")


class Servers:
    """Finds and signals the processes below the local system's."""

    def __init__(self, pid: int) -> None:
        self._launcher = psutil.Process(pid)

    def find(self, target: str) -> list[psutil.Process]:
        """Return the processes of a part: its main process, or with ``child`` its task processes; may be none."""
        for process in self._launcher.children():
            with suppress(psutil.Error):
                if any(_PARTS[part_of(target)] in word for word in process.cmdline()):
                    return process.children() if target.endswith("child") else [process]
        return []

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
