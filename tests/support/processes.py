"""Processes that tests start: their environment, their ports, and what they print."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from local.ports import FreePorts
from tests.support.eventually import PATIENCE_S
from tests.support.paths import ROOT

# Where the tests run in the background of a shell, SIGINT is ignored, and so would be by every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


_PORTS = FreePorts({})


def free_port() -> int:
    """Return a port of loopback that nobody listens at, and that no other test or local system is given."""
    return _PORTS.take("test")


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port of loopback that refuses connections for the whole block: nobody else can come to listen at it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@contextmanager
def suspended(worker: psutil.Process) -> Iterator[None]:
    """Suspend a worker and the processes of its tasks over the block."""
    processes = [worker, *worker.children()]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def bare_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what it says of Artseek, and with `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ARTSEEK_")} | more


def run_module(
    arguments: list[str],
    *,
    data: Path | None = None,
    check: bool = True,
    timeout_s: float = PATIENCE_S,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run Python with arguments such as ``-m cli status`` and return what it printed.

    Raises:
        AssertionError: It failed, and `check` is set; the message has what it wrote to both outputs.
    """
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
