"""What the threads of a run share."""

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.client import Client
from benchmarks.chaos.journal import Journal
from benchmarks.chaos.model import Model
from benchmarks.chaos.times import Absences
from benchmarks.system import ROOT, RunningSystem, command_environment

JOB_PATIENCE_S = 45.0
_COMMAND_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Run:
    """A run: the system, what is known of it, and when it ends.

    Attributes:
        system: The running system.
        seed: What all choices follow from.
        scratch: A folder for files that commands read.
        over: Is set when no new operation, search or disturbance may begin.
    """

    system: RunningSystem
    seed: int
    scratch: Path
    client: Client
    model: Model
    journal: Journal
    absences: Absences
    over: threading.Event = field(default_factory=threading.Event)

    def command(self, *arguments: str, patience_s: float = _COMMAND_PATIENCE_S) -> tuple[int | None, str]:
        """Run `artseek` and return its exit status and output; None if it did not end in time.

        A stack trace is a violation.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments],
            cwd=ROOT,
            env=command_environment(self.system.data),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, errors = process.communicate(timeout=patience_s)
            status: int | None = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, errors = process.communicate()
            status = None
        if "Traceback" in errors:
            self.journal.violation(f"artseek {' '.join(arguments)} showed a stack trace: {errors[-1500:]}")
        elif status:
            self.journal.note(f"artseek {' '.join(arguments)} ended with {status}: {errors.strip()[-300:]}")
        return status, out
