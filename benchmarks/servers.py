"""The servers that a benchmark needs, as the local system runs them, each started and stopped on its own."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from local.child_processes import Child, tethered
from local.data_folder import DataFolder
from local.ports import FreePorts
from local.system import LocalSystem

_POLL_S = 0.005
_STOP_S = 30.0


class Servers:
    """Servers on a folder; none runs until it is started, all are stopped after the block.

    A server ends with the thread that started it.
    """

    def __init__(self, folder: Path, *, models: Path) -> None:
        port = FreePorts({}).take("benchmark")
        system = LocalSystem(DataFolder(folder), host="127.0.0.1", port=port, models=models)
        self.folder, self.settings = system.folder.path, system.settings
        self._children: dict[str, Child] = {
            child.name: child for child in (*system.backing_servers(), *system.services())
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)

    def start(self, *names: str) -> float:
        """Start servers and return the seconds until all of them are ready.

        Raises:
            RuntimeError: One ended or was not ready in time; the message has the end of its log.
        """
        started = time.perf_counter()
        for name in names:
            child = self._children[name]
            with self._log(name).open("ab") as out:
                self._running[name] = subprocess.Popen(
                    tethered(child.command),
                    cwd=child.folder,
                    env={**os.environ, **child.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        for name in names:
            # As long as a large copy takes to be fetched.
            while not self._children[name].ready():
                ended = self._running[name].poll() is not None
                if ended or time.perf_counter() - started > 10 * self._children[name].patience_s:
                    log = self._log(name).read_text(encoding="utf-8", errors="replace")
                    raise RuntimeError(f"{name} {'ended' if ended else 'is not ready'}: {log[-2000:]}")
                time.sleep(_POLL_S)
        return time.perf_counter() - started

    def stop(self, name: str) -> None:
        """Stop a server as the system does."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def pid(self, name: str) -> int:
        """Return the process id of a running server."""
        return self._running[name].pid

    def pids(self, name: str) -> list[int]:
        """Return the process ids of a running server: its own, and those of the processes that share its work."""
        pid = self.pid(name)
        children = psutil.Process(pid).children()
        return [pid, *(child.pid for child in children if any(word.endswith(".worker") for word in child.cmdline()))]

    def running(self) -> dict[str, list[int]]:
        """Return the process ids of all servers that run now, by name."""
        found = {}
        for name in list(self._running):
            with suppress(psutil.NoSuchProcess, KeyError):  # it has just ended
                found[name] = self.pids(name)
        return found

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"
