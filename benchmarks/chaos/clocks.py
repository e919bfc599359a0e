"""The clocks of the system's Python processes, which are shifted while they run."""

import os
from collections.abc import Mapping
from pathlib import Path

from benchmarks.chaos.shifted_clock import sitecustomize

_FOLDER = Path(sitecustomize.__file__).parent


class Clocks:
    """The clocks of all Python processes that run with `environment`; the servers keep the right time.

    Args:
        offset: A file for this use alone.
    """

    def __init__(self, offset: Path) -> None:
        self._offset = offset
        self.shift(0)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs whose clock is to be shifted."""
        paths = [str(_FOLDER), os.environ.get("PYTHONPATH", "")]
        return {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            sitecustomize.OFFSET_VARIABLE: str(self._offset),
        }

    def shift(self, seconds: int) -> None:
        """Have the clocks show so many seconds more, or less, than the time; within a second."""
        part = self._offset.with_suffix(".part")
        part.write_text(str(seconds))
        part.replace(self._offset)
