"""What tests of several kinds share: the running system, as a user would start it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.demo import sample_gallery
from shared.settings import SETTINGS_FILE, Settings
from shared.tensorflow_runtime import enable_onednn
from tests.support.paths import ROOT

_MODELS = ROOT / "build" / "models"  # exported once, not once a run
_PATIENCE_S = 120.0

# Where the tests run in the background of a shell, SIGINT is ignored, and so would be by every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

enable_onednn()  # before any test imports TensorFlow


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bare_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what it says of Artseek, and with `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ARTSEEK_")} | more


def run(
    arguments: list[str],
    *,
    data: Path | None = None,
    check: bool = True,
    timeout_s: float = 300.0,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a Python module of ours and return what it printed."""
    folder = {"ARTSEEK_DATA": str(data)} if data is not None else {}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=bare_environment(**folder, **(environment or {})),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


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
        return run(["-m", "cli", *arguments], data=self.data, check=check, environment=self.environment)

    def stop(self) -> int:
        """Stop the system as Ctrl-C does; returns its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)


def launcher_log(data: Path) -> Path:
    """Return where the output of the system on a folder goes."""
    return data.with_name(f"{data.name}.log")


def launch(data: Path, *, port: int, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """Begin to start the whole system on a folder; its output goes to a file beside it."""
    run(["-m", "training.export", "--out", str(_MODELS), "--base-path", str(_MODELS)])
    with launcher_log(data).open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "local", "--data", str(data)),
                *("--port", str(port), "--models", str(_MODELS)),
            ],
            cwd=ROOT,
            env=bare_environment(**(environment or {})),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def start_stack(data: Path, *, port: int | None = None, environment: Mapping[str, str] | None = None) -> Stack:
    """Start the whole system on a folder and wait until it is ready; `environment` is its and its commands'."""
    port = port or free_port()
    process = launch(data, port=port, environment=environment)
    stack = Stack(process, data, f"http://127.0.0.1:{port}", environment)
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{stack.url}/readyz", timeout=5):  # noqa: S310 -- our own address
                return stack
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    process.terminate()
    process.wait(timeout=30)
    raise AssertionError(launcher_log(data).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample gallery: five class folders."""
    folder = tmp_path_factory.mktemp("gallery") / "works"
    sample_gallery.render(folder, works=60, seed=0)
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, gallery: Path) -> Iterator[Stack]:
    """The whole system with the sample gallery in the collection ``default``; tests leave that collection as it is."""
    running = start_stack(tmp_path_factory.mktemp("stack"))
    try:
        running.artseek("ingest", str(gallery), "--labels-from-folders")
        yield running
    finally:
        running.stop()
