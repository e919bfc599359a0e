"""Runs the `artseek` command in processes that are forked from one that has imported most of what it needs.

Importing it takes a second of processor time, and tests run it some hundred times.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.paths import ROOT


def run_command(
    arguments: tuple[str, ...], environment: Mapping[str, str], *, timeout_s: float
) -> tuple[int, str, str]:
    """Return the exit status of a command, and what it wrote to standard output and to standard error.

    Raises:
        AssertionError: It has not ended in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        for output in outputs:
            output.touch()
        request = {"arguments": arguments, "environment": dict(environment), "outputs": list(map(str, outputs))}
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw", encoding="utf-8") as stream:
            connection.settimeout(timeout_s)
            connection.connect(_server())
            stream.write(f"{json.dumps(request)}\n")
            stream.flush()
            try:
                answer = stream.readline()
            except TimeoutError:
                message = f"artseek {' '.join(arguments)} has not ended within {timeout_s:.0f} s"
                raise AssertionError(message) from None
        printed, told = (output.read_text(encoding="utf-8") for output in outputs)
        return int(answer), printed, told


@cache
def _server() -> str:
    """Return the path of the socket of this process's server, once it runs."""
    folder = tempfile.mkdtemp()  # short enough for a socket's path, which the folders of tests are not
    path = Path(folder) / "commands"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.command_server", str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
    )

    def stop() -> None:
        process.communicate()
        path.unlink(missing_ok=True)
        path.parent.rmdir()

    atexit.register(stop)

    def listens() -> bool:
        assert process.poll() is None, "the server of commands has ended"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"\n")
        return True

    eventually(listens, trying=OSError)
    return str(path)
