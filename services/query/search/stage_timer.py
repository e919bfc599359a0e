"""Times the stages of a search."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimer:
    """Times stages in milliseconds; the times of a stage that comes twice add up."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as a part of a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._add(name, (time.perf_counter() - started) * 1000)

    def add(self, other: "StageTimer") -> None:
        """Add the times of another: of stages that were gone through for several searches together."""
        for name, spent in other.timings_ms.items():
            self._add(name, spent)

    def _add(self, name: str, spent: float) -> None:
        self.timings_ms[name] = self.timings_ms.get(name, 0.0) + spent
