"""A process that gives way: with its children, and as a session where it is alone in one."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.background_priority import NICE
from tests.support.paths import ROOT

_SHOW = """
import os, subprocess, sys
from pathlib import Path
shown = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
place = Path("/proc/self/autogroup")
print(os.getpriority(os.PRIO_PROCESS, 0))
sys.stdout.flush()
subprocess.run([sys.executable, "-c", shown], check=True)
print(place.read_text().split()[-1] if place.exists() else "none")
"""
_GIVE_WAY = "from shared.background_priority import leave_processors_to_others\nleave_processors_to_others()\n"


def run(code: str, *, in_own_session: bool) -> list[str]:
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, start_new_session=in_own_session, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("times", [1, 2])
def test_a_process_and_its_children_give_way(times: int) -> None:
    before = int(run(_SHOW, in_own_session=True)[0])
    own, child, session = run(_GIVE_WAY * times + _SHOW, in_own_session=True)
    assert own == child == str(max(before, NICE))
    if Path("/proc/self/autogroup").exists():
        assert session == str(NICE)


def test_a_session_of_others_keeps_its_share() -> None:
    _, _, before = run(_SHOW, in_own_session=True)
    started = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {_GIVE_WAY!r}], check=True)\n"
    below = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {started!r}], check=True)\n"
    assert run(below + _SHOW, in_own_session=True)[2] == before
