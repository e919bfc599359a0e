"""The load board: how many requests each process of a query service works on, in a file that all of them map."""

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

_AWAY: Final = -1  # as every place is at first
_BYTES: Final = 8


class LoadBoard:
    """A number for each process, which that process alone writes while it runs."""

    def __init__(self, path: Path, processes: int) -> None:
        """Open the board, which `make` has made."""
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), processes * _BYTES)
        self._loads = memoryview(self._map).cast("q")
        self._lock = threading.Lock()

    @classmethod
    def make(cls, path: Path, processes: int) -> Self:
        """Make a board on which every process is away."""
        path.write_bytes(_AWAY.to_bytes(_BYTES, "little", signed=True) * processes)
        return cls(path, processes)

    def __len__(self) -> int:
        return len(self._loads)

    def load(self, process: int) -> int | None:
        """Return how many requests a process works on; None if it takes none."""
        load = self._loads[process]
        return None if load == _AWAY else load

    def enter(self, process: int) -> None:
        """Show that a process takes requests, and works on none."""
        self._loads[process] = 0

    def leave(self, process: int) -> None:
        """Show that a process takes no requests."""
        with self._lock:
            self._loads[process] = _AWAY

    @contextmanager
    def working(self, process: int) -> Iterator[None]:
        """Count a request that this process works on, during the block."""
        self._add(process, 1)
        try:
            yield
        finally:
            self._add(process, -1)

    def _add(self, process: int, requests: int) -> None:
        with self._lock:
            if (load := self._loads[process]) != _AWAY:  # it finishes what it has begun after it has left
                self._loads[process] = load + requests
