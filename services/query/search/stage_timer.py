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
            spent = (time.perf_counter() - started) * 1000
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + spent
