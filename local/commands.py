"""Runs our commands on the terminal of the local system, and writes to it."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from local.child_processes import tethered
from shared.stopping import StopSignal


def run_command(arguments: Sequence[str], stop: StopSignal, *, environment: Mapping[str, str] | None = None) -> int:
    """Run a Python command with more `environment`; a stop ends it. Returns its exit status."""
    process = subprocess.Popen(
        tethered([sys.executable, *arguments]), start_new_session=True, env={**os.environ, **(environment or {})}
    )
    while True:
        try:
            return process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            if stop.requested:
                process.terminate()
                try:
                    return process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    return process.wait()


def say(text: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
