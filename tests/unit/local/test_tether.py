"""What is started by the local system does not outlive it, whatever it does with signals."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.support.eventually import eventually
from tests.support.paths import ROOT
from tests.support.processes import bare_environment

pytestmark = [
    pytest.mark.slow,  # it starts processes
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed"),
]

_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(3600)
"""
_PARENT = """
import subprocess, sys
from local.child_processes import tethered
child = subprocess.Popen(tethered([sys.executable, "-c", sys.argv[1]]), stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def test_one_that_takes_its_time_to_stop_dies_with_a_killed_parent() -> None:
    command = [sys.executable, "-c", _PARENT, _STUBBORN]
    with subprocess.Popen(command, cwd=ROOT, env=bare_environment(), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(child.pid, signal.SIGTERM)
        assert child.is_running()
        os.kill(parent.pid, signal.SIGKILL)
    eventually(child.is_running, until=False.__eq__)
