"""A system of its own for a benchmark, in a folder that is thrown away."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from local.ports import FreePorts
from shared.settings import SETTINGS_FILE, Settings

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "build" / "models"
_PATIENCE_S = 180.0
_PARTS = {
    "decoding_child": "decoding",
    "services.embedder": "embedder",
    "services.indexer": "indexer",
    "services.maintenance": "maintenance worker",
    "services.evaluator": "evaluator",
    "services.model_server": "model server",
    "services.query": "query service",
    "services.web": "web",
    "valkey-index": "index",
    "valkey-broker": "broker",
    "weed": "object store",
}
"""The parts of the system by a word in the commands of their processes."""


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

    def processor_seconds(self) -> dict[str, float]:
        """Return the processor time that each part of the system has taken, with its own processes, by part."""
        spent: defaultdict[str, float] = defaultdict(float)
        for process in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.Error):  # it ends just now
                times = process.cpu_times()
                spent[_part_of(process.cmdline())] += times.user + times.system
        return dict(spent)

    def is_ready(self) -> bool:
        """Return whether all parts of the system are up."""
        return _answers(f"{self.url}/readyz")

    def wait_until_alive(self, patience_s: float) -> None:
        """Wait until the web service answers, or the time is over."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until and not _answers(f"{self.url}/healthz"):
            time.sleep(0.1)

    def artseek(self, *arguments: str) -> dict[str, Any]:
        """Run a command with ``--json`` and return what it printed."""
        command = [sys.executable, "-m", "cli", *arguments, "--json"]
        environment = command_environment(self.data)
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in {0, 3}:
            raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}")
        return dict(json.loads(done.stdout))


def _part_of(command: list[str]) -> str:
    """Return the part of the system that runs a command."""
    line = " ".join(command)
    return next((part for word, part in _PARTS.items() if word in line), "others")


def export_models() -> None:
    """Export the default model unless it was exported before."""
    command = [sys.executable, "-m", "training.export", "--out", str(MODELS), "--base-path", str(MODELS)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def command_environment(data: Path) -> dict[str, str]:
    """Return the environment in which a command of ours reaches the system on a data folder."""
    return {**os.environ, "ARTSEEK_DATA": str(data)}


@contextmanager
def running_system() -> Iterator[RunningSystem]:
    """Start the whole system on a temporary folder; stop it and remove the folder after the block."""
    export_models()
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as folder, system_on(Path(folder)) as system:
        yield system


@contextmanager
def system_on(
    data: Path, *, models: Path = MODELS, environment: Mapping[str, str] | None = None
) -> Iterator[RunningSystem]:
    """Start the whole system on a folder, with more `environment`; stop it after the block."""
    port = FreePorts({}).take("benchmark")
    command = [sys.executable, "-m", "local", "--data", str(data), "--port", str(port)]
    with (data / "local.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--models", str(models)],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _when_ready(data, f"http://127.0.0.1:{port}", process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _when_ready(data: Path, url: str, process: "subprocess.Popen[bytes]") -> RunningSystem:
    system = RunningSystem(data, url, process.pid)
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        if system.is_ready():
            return system
        time.sleep(0.2)
    raise SystemExit((data / "local.log").read_text())


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 -- our own address
            return True
    except (OSError, http.client.HTTPException):
        return False
