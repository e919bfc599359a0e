"""A server of the local system that tests start, kill and start again."""

import os
import subprocess
from pathlib import Path

from local.child_processes import Child, tethered
from tests.support.eventually import eventually


class Server:
    """A server of the local system, without anything that would start it again when it is killed."""

    def __init__(self, child: Child, log: Path) -> None:
        self._child, self._log = child, log
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server, again if it was killed, and wait until it is ready; it lives no longer than this thread."""
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                tethered(self._child.command),
                cwd=self._child.folder,
                env={**os.environ, **self._child.environment},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        eventually(self._is_ready, interval_s=0.02, explain=self._read_log)

    def _is_ready(self) -> bool:
        assert self.lives, self._read_log()
        return self._child.ready()

    def _read_log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether the server runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Kill the server as a crash would; a second time does nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
