"""The whole system on a data folder, started as a user would start it."""

import fcntl
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from shared.settings import SETTINGS_FILE, Settings
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.forked_command import run_command
from tests.support.paths import ROOT
from tests.support.processes import bare_environment, free_port, run_module

_MODELS = ROOT / "build" / "models"  # exported once, not once a run


@dataclass
class Stack:
    """A running system: its page's address, its data folder, and its settings."""

    process: "subprocess.Popen[str]"
    data: Path
    url: str
    environment: Mapping[str, str] | None = None

    @property
    def settings(self) -> Settings:
        """The settings that reach the system."""
        return Settings(_env_file=self.data / SETTINGS_FILE, data=self.data)  # type: ignore[call-arg]

    def artseek(self, *arguments: str, check: bool = True) -> str:
        """Run the command against the system; returns what it printed to standard output."""
        status, printed, told = self.run(*arguments)
        if check and status:
            raise AssertionError(f"artseek {' '.join(arguments)} ended with {status}:\n{printed}\n{told}")
        return printed

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Run the command against the system; returns its exit status, and what it wrote to both outputs."""
        own = bare_environment(ARTSEEK_DATA=str(self.data), **(self.environment or {}), **environment)
        return run_command(arguments, own, timeout_s=PATIENCE_S)

    def popen(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the command against the system, with pipes for what it prints."""
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments],
            cwd=ROOT,
            env=bare_environment(ARTSEEK_DATA=str(self.data), **(self.environment or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def part(self, name: str) -> psutil.Process:
        """Return the process that writes to the log of this name."""
        found = psutil.Process(self.process.pid).children()
        return next(process for process in found if Path(f"/proc/{process.pid}/fd/1").resolve().stem == name)

    def wait_until_ready(self) -> None:
        """Wait until all parts are up.

        Raises:
            AssertionError: The system ended, or was not ready in time; the message has its log.
        """

        def log() -> str:
            return launcher_log(self.data).read_text(encoding="utf-8")

        def is_ready() -> bool:
            assert self.process.poll() is None, log()
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=PATIENCE_S):  # noqa: S310 -- our own address
                return True

        # An HTTP error is an OSError too: the answer is 503 until all parts are there.
        eventually(is_ready, trying=OSError, explain=log)

    def stop(self) -> int:
        """Stop the system as Ctrl-C does; returns its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=PATIENCE_S)


@cache
def exported_models() -> Path:
    """Return a folder with the default model, as the model server reads it."""
    _MODELS.mkdir(parents=True, exist_ok=True)
    with _MODELS.with_name("models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes may run tests at once
        run_module(["-m", "training.export", "--out", str(_MODELS), "--base-path", str(_MODELS)])
    return _MODELS


def launcher_log(data: Path) -> Path:
    """Return where the output of the system on a folder goes."""
    return data.with_name(f"{data.name}.log")


def launch(
    data: Path, *, port: int, environment: Mapping[str, str] | None = None, models: Path | None = None
) -> "subprocess.Popen[str]":
    """Begin to start the whole system on a folder; its output goes to a file beside it."""
    models = models or exported_models()
    with launcher_log(data).open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "local", "--data", str(data)),
                *("--port", str(port), "--models", str(models)),
            ],
            cwd=ROOT,
            env=bare_environment(**(environment or {})),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def start_stack(
    data: Path,
    *,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    models: Path | None = None,
) -> Stack:
    """Start the whole system on a folder and wait until it is ready; `environment` is its and its commands'.

    It serves the default model, or what `models` has.

    Raises:
        AssertionError: It ended, or was not ready in time; the message has its log.
    """
    port = port or free_port()
    process = launch(data, port=port, environment=environment, models=models)
    stack = Stack(process, data, f"http://127.0.0.1:{port}", environment)
    try:
        stack.wait_until_ready()
    except BaseException:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
        raise
    return stack
