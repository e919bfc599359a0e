"""The supervisor of a query service with several processes: starts them, replaces the dead, shows their metrics."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from services.query import metrics_page
from services.query.processes.group_folder import group_folder
from services.query.processes.joint_metrics import COUNTS, JointMetrics
from services.query.processes.load_board import LoadBoard
from services.query.processes.process_group import board_path, records_of_others
from shared.settings import Settings
from shared.stopping import StopSignal

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.1
_STOP_S: Final = 11.0  # a process finishes what it has begun, and the change that it follows
_LASTING_S: Final = 10.0  # a process that ran for so long has not failed at its start
_LONGEST_WAIT_S: Final = 5.0


class _Worker:
    """One process, which is started again when it has died."""

    def __init__(self, folder: Path, number: int, count: int) -> None:
        self._folder, self.number, self._count = folder, number, count
        self._failures = 0  # starts in a row after which it soon died
        self._due: float | None = None  # when it is started again, once its death was noticed
        self.process = self._spawn()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        self._started = time.monotonic()
        command = [sys.executable, "-m", "services.query.processes.worker"]
        return subprocess.Popen(
            [*command, str(self._folder), str(self.number), str(self._count)],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._folder / COUNTS)},
            stdin=subprocess.PIPE,  # which the kernel closes when this process ends, however it does
        )

    def revive(self, board: LoadBoard) -> None:
        """Start the process again if it has died, after a while that is longer the more often it has failed."""
        status = self.process.poll()
        if status is None:
            return
        if self._due is None:
            board.leave(self.number)
            self._close_pipe()
            self._failures = self._failures + 1 if time.monotonic() - self._started < _LASTING_S else 0
            self._due = time.monotonic() + min(0.1 * 2**self._failures, _LONGEST_WAIT_S)
            _log.warning("process %d ended with status %d and is started again", self.number, status)
        elif time.monotonic() >= self._due:
            try:
                self.process, self._due = self._spawn(), None
            except OSError as error:  # too many processes, say: that may pass
                _log.error("process %d cannot be started: %s", self.number, error)
                self._due = time.monotonic() + _LONGEST_WAIT_S

    def stop(self, until: float) -> None:
        """Wait until the process, which was asked to, has ended; kill it if it takes too long."""
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            _log.warning("process %d does not stop and is killed", self.number)
            self.process.kill()
            self.process.wait()
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()


class Supervisor:
    """Runs a query service of several processes at the addresses of the settings."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._settings, self._count = settings, count

    def run(self, stop: StopSignal) -> None:
        """Serve until `stop`.

        Raises:
            SystemExit: An address is taken.
        """
        for folder in records_of_others(self._settings.query_copy, self._count):
            shutil.rmtree(folder, ignore_errors=True)
        with _held(self._settings.query_listen), group_folder() as folder:
            (folder / COUNTS).mkdir()
            board = LoadBoard.make(board_path(folder), self._count)
            with self._metrics(folder):
                self._supervise(folder, board, stop)

    def _supervise(self, folder: Path, board: LoadBoard, stop: StopSignal) -> None:
        _log.info("the query service has %d processes", self._count)
        workers: list[_Worker] = []
        try:
            workers += (_Worker(folder, number, self._count) for number in range(self._count))
            while not stop.wait(_POLL_S):
                for worker in workers:
                    worker.revive(board)
        finally:
            for worker in workers:
                worker.process.terminate()
            until = time.monotonic() + _STOP_S
            for worker in workers:
                worker.stop(until)

    @contextmanager
    def _metrics(self, folder: Path) -> Iterator[None]:
        address, token = self._settings.query_metrics_listen, self._settings.metrics_token.get_secret_value()
        registry = CollectorRegistry()
        registry.register(JointMetrics(folder, self._count))
        try:
            close = metrics_page.serve(registry, address, token=token)
        except OSError as error:
            raise SystemExit(f"cannot listen at ARTSEEK_QUERY_METRICS_LISTEN={address}: {error}") from error
        try:
            yield
        finally:
            close()


@contextmanager
def _held(address: str) -> Iterator[None]:
    """Hold the port that the processes share, without listening there, so that no other service takes it.

    Raises:
        SystemExit: It is taken.
    """
    parts = urlsplit(f"//{address}")
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 0, type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as alone:  # which is refused where another one listens or holds
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(place)
        holder = socket.socket(family, kind, protocol)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            holder.setsockopt(socket.SOL_SOCKET, option, 1)
        holder.bind(place)
    except OSError as error:
        raise SystemExit(f"cannot listen at ARTSEEK_QUERY_LISTEN={address}: {error}") from error
    with holder:
        yield
