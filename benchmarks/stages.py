"""The stages of a long benchmark: what runs, for how long, and the most memory that each process had meanwhile."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from benchmarks.memory_watch import Memory, MemoryWatch

Log = Callable[[str], None]


class Stages:
    """Tells of each stage when it ends, and of one that takes longer each minute.

    Beside its time, it tells what of it this process computed, which other programs on the machine change less.

    `processes` returns the ids of the processes that run, by the name that they are shown under.
    """

    def __init__(self, log: Log, processes: Callable[[], Mapping[str, Iterable[int]]]) -> None:
        self._log = log
        self._stage, self._started = "", time.monotonic()
        self._watch = MemoryWatch(processes, each_minute=self._tell)
        self.peaks: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._watch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Tell of a stage; `peaks` is the most anonymous memory that each process had, of all stages so far."""
        self._stage, self._started, computed = name, time.monotonic(), time.process_time()
        self._watch.take_peaks()
        yield
        computed = time.process_time() - computed
        peaks = self._watch.take_peaks()
        self.peaks = {process: max(peaks.get(process, 0), self.peaks.get(process, 0)) for process in peaks | self.peaks}
        took = time.monotonic() - self._started
        self._log(f"{name}: {took:.1f} s, {computed:.1f} s of cores here; at most {_megabytes(peaks)}")
        self._stage = ""

    def memory(self) -> dict[str, Memory]:
        """Return the memory of each process now."""
        return self._watch.now()

    def _tell(self, peaks: Mapping[str, int]) -> None:
        if self._stage:
            self._log(f"  {self._stage}, since {time.monotonic() - self._started:.0f} s; at most {_megabytes(peaks)}")


def _megabytes(peaks: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {peak / 2**20:.0f} MB" for name, peak in peaks.items())
