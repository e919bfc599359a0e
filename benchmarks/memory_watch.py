"""The memory of processes while a benchmark runs: what is theirs alone, and what is pages of files.

Pages of files, such as mapped segments, may be given back to the system at any time; the rest may not.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_PERIOD_S = 0.25
_TOLD_S = 60.0


@dataclass(frozen=True)
class Memory:
    """Resident memory of processes, in bytes: anonymous, and pages of files, which several of them may share."""

    anonymous: int
    mapped: int


def memory_of(pids: Iterable[int]) -> Memory:
    """Return the resident memory of processes; of one that is gone, none."""
    found: Counter[str] = Counter()
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(":")
            if name in {"RssAnon", "RssFile", "RssShmem"}:
                found[name] += int(value.split()[0]) * 1024
    return Memory(found["RssAnon"], found["RssFile"] + found["RssShmem"])


class MemoryWatch:
    """Looks at the memory of processes four times a second, on a thread of its own, and keeps the peaks.

    `processes` returns the ids of those that run, by the name that they are shown under. `each_minute` is called with
    the peaks so far.
    """

    def __init__(
        self, processes: Callable[[], Mapping[str, Iterable[int]]], *, each_minute: Callable[[Mapping[str, int]], None]
    ) -> None:
        self._processes, self._each_minute = processes, each_minute
        self._peaks: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def now(self) -> dict[str, Memory]:
        """Return the memory of each."""
        return {name: memory_of(pids) for name, pids in self._processes().items()}

    def take_peaks(self) -> dict[str, int]:
        """Return the most anonymous memory that each had since the last call, in bytes."""
        self.look()
        with self._lock:
            peaks, self._peaks = self._peaks, {}
        return peaks

    def look(self) -> None:
        """Look at the memory of each now."""
        found = self.now()
        with self._lock:
            for name, memory in found.items():
                self._peaks[name] = max(self._peaks.get(name, 0), memory.anonymous)

    def _run(self) -> None:
        told = time.monotonic()
        while not self._stop.wait(_PERIOD_S):
            self.look()
            if time.monotonic() - told > _TOLD_S:
                told = time.monotonic()
                self._each_minute(dict(self._peaks))
