"""A process whose clock is shifted: both ways to ask for the time agree."""

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.chaos.clocks import Clocks
from tests.support.paths import ROOT

_SHOW = "import time; assert abs(time.time_ns() / 1e9 - time.time()) < 60; print(time.time())"


def _time_shown(clocks: Clocks) -> float:
    command = [sys.executable, "-W", "error", "-c", _SHOW]
    environment = {**os.environ, **clocks.environment}
    return float(subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True).stdout)


def test_a_shifted_clock_is_ahead_or_behind_and_then_right_again(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path / "offset")
    for shift in (36_000, -36_000, 0):
        clocks.shift(shift)
        before = time.time()
        shown = _time_shown(clocks)
        assert before <= shown - shift <= time.time()
