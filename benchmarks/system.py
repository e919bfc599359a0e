"""A system of its own for a benchmark, in a folder that is thrown away."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.ports import FreePorts
from shared.settings import SETTINGS_FILE, Settings

_ROOT = Path(__file__).resolve().parent.parent
MODELS = _ROOT / "build" / "models"
_PATIENCE_S = 180.0


@dataclass(frozen=True)
class RunningSystem:
    """A running system: its data folder, the page's address and the local system's process id."""

    data: Path
    url: str
    pid: int

    @property
    def settings(self) -> Settings:
        """The settings that reach the system."""
        return Settings(_env_file=self.data / SETTINGS_FILE, data=self.data)  # type: ignore[call-arg]

    def artseek(self, *arguments: str) -> dict[str, Any]:
        """Run a command with ``--json`` and return what it printed."""
        command = [sys.executable, "-m", "cli", *arguments, "--json"]
        environment = {**os.environ, "ARTSEEK_DATA": str(self.data)}
        done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in {0, 3}:
            raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}")
        return dict(json.loads(done.stdout))


def export_models() -> None:
    """Export the default model unless it was exported before."""
    command = [sys.executable, "-m", "training.export", "--out", str(MODELS), "--base-path", str(MODELS)]
    subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def running_system() -> Iterator[RunningSystem]:
    """Start the whole system on a temporary folder; stop it and remove the folder after the block."""
    export_models()
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as folder:
        data = Path(folder)
        port = FreePorts({}).take("benchmark")
        command = [sys.executable, "-m", "local", "--data", folder, "--port", str(port)]
        with (data / "local.log").open("w") as log:
            process = subprocess.Popen(
                [*command, "--models", str(MODELS)], cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            yield _when_ready(data, f"http://127.0.0.1:{port}", process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _when_ready(data: Path, url: str, process: "subprocess.Popen[bytes]") -> RunningSystem:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 -- our own address
                return RunningSystem(data, url, process.pid)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SystemExit((data / "local.log").read_text())
