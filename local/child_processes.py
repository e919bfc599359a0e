"""Child processes: started in order, watched, started again when they die, stopped in reverse."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from local.log_files import last_line, rotate
from shared.stopping import StopSignal

_log = logging.getLogger(__name__)

_TETHER = Path(__file__).with_name("tether.py")
_POLL_S = 0.1
_ROTATE_S = 1.0
_STOP_S = 12.0
_LASTING_S = 10.0  # a child that ran for so long has not failed at its start
_LONGEST_WAIT_S = 5.0
_OFTEN = 3  # failed starts in a row that are logged
_BUSY = 5  # times as long as usual: what a start takes on a busy machine


class NotReady(Exception):
    """A child did not become ready; the message says which one and where its log is."""


def tethered(command: Sequence[str]) -> list[str]:
    """Return a command that is killed when the thread of this process that starts it ends."""
    return [sys.executable, "-S", str(_TETHER), str(os.getpid()), *command]


@dataclass(frozen=True)
class Child:
    """A server to run: its command and environment, how to see that it is ready, and how long that may take.

    A child that has not died at its start gets `_BUSY` times as long as `patience_s`: the machine may have much to do.
    It runs in `folder`, by default that of its parent.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    patience_s: float = 60.0
    folder: Path | None = None


class _Running:
    def __init__(self, child: Child, log: Path) -> None:
        self.child = child
        self._log = log
        self._failures = 0  # starts in a row after which the child soon died, or could not be made
        self._cannot_start = False
        self._has_died = False
        self._due: float | None = None  # when it is started again, once its death was noticed
        self.process = self._spawn()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        self.started = time.monotonic()
        self._log.touch(mode=0o600)
        with self._log.open("ab") as out:
            return subprocess.Popen(
                tethered(self.child.command),
                cwd=self.child.folder,
                env={**os.environ, **self.child.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                umask=0o077,  # what a server writes of its own may hold its secrets: SeaweedFS' log does
                start_new_session=True,  # Ctrl-C is for the local system, which stops its children in order
            )

    @property
    def patience_s(self) -> float:
        """How long to wait until the child is ready."""
        return self.child.patience_s * (1 if self._has_died else _BUSY)

    def revive(self, status: int) -> None:
        """Start a child that ended again, once it is time; what is left of its process group is killed first."""
        if self._due is None:
            self.signal(signal.SIGKILL)
            self._has_died = True
            self._wait(failed=time.monotonic() - self.started < _LASTING_S)
            if self._failures < _OFTEN:
                _log.warning("%s ended with status %d and is started again", self.child.name, status)
            elif self._failures == _OFTEN:
                _log.warning("%s ends at each start (status %d); its log says why", self.child.name, status)
        elif time.monotonic() >= self._due:
            try:
                self.process = self._spawn()
                self._due, self._cannot_start = None, False
            except OSError as error:  # a full disk, say, or too many processes: that may pass
                if not self._cannot_start:
                    _log.error("%s cannot be started: %s", self.child.name, error)
                self._cannot_start = True
                self._wait(failed=True)

    def note_lasting(self) -> None:
        """Take note that the child runs; one that ended at each start is told to run again."""
        if self._failures and time.monotonic() - self.started >= _LASTING_S:
            if self._failures >= _OFTEN:
                _log.warning("%s runs again", self.child.name)
            self._failures = 0

    def rotate_log(self) -> None:
        """Keep the log small."""
        with suppress(OSError):
            rotate(self._log)

    def last_words(self) -> str:
        """Return the last line of the log, as the end of a sentence; nothing if there is none."""
        try:
            line = last_line(self._log)
        except OSError:
            return ""
        return f", which ends with: {line}" if line else ""

    def _wait(self, *, failed: bool) -> None:
        """Put the next start off, the longer the more often one has failed in a row."""
        self._failures = self._failures + 1 if failed else 0
        self._due = time.monotonic() + min(0.1 * 2**self._failures, _LONGEST_WAIT_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child and its children."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def group_is_gone(self) -> bool:
        """Return whether no process of the child's group is left."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class Children:
    """Runs children until `stop`; use it as a context manager. A requested stop ends every wait."""

    def __init__(self, logs: Path, stop_signal: StopSignal) -> None:
        self._logs = logs
        self._stop_signal = stop_signal
        self._groups: list[list[_Running]] = []  # each started, and stopped, at the same time
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="children", daemon=True).start()

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, children: Sequence[Child]) -> None:
        """Start children at the same time and wait until all of them are ready.

        Raises:
            NotReady: One was not ready in time, or died over and over.
        """
        group: list[_Running] = []
        self._groups.append(group)
        waiting = []
        for child in children:
            with self._lock:
                if self._stop_signal.requested:
                    return
                running = _Running(child, self._logs / f"{child.name}.log")
                group.append(running)
            waiting.append(running)
        begun = time.monotonic()
        while waiting:
            still = []
            for running in waiting:
                if running.child.ready():
                    _log.info("%s is ready after %.1f s", running.child.name, time.monotonic() - running.started)
                elif (waited := time.monotonic() - begun) > running.patience_s:
                    raise NotReady(
                        f"{running.child.name} was not ready within {waited:.0f} s; "
                        f"see {self._logs / running.child.name}.log{running.last_words()}"
                    )
                else:
                    still.append(running)
            waiting = still
            if waiting and self._stop_signal.wait(_POLL_S):
                return

    def _watch(self) -> None:
        # To the end: the kernel ties a child to the thread that started it, and would stop those started here early.
        rotated = time.monotonic()
        while not self._stopped.wait(_POLL_S):
            every = [running for group in self._groups for running in group]
            for running in every:
                status = running.process.poll()
                with self._lock:
                    if status is None:
                        running.note_lasting()
                    elif not self._stopping.is_set():
                        running.revive(status)
            if time.monotonic() - rotated >= _ROTATE_S:
                for running in every:
                    running.rotate_log()
                rotated = time.monotonic()

    def stop(self) -> None:
        """Stop the children, those started last first, and leave no process of theirs behind."""
        self._stopping.set()
        with self._lock:
            groups = list(reversed(self._groups))
        for group in groups:
            for running in group:
                running.signal(signal.SIGTERM)
            deadline = time.monotonic() + _STOP_S
            while not all(running.group_is_gone() for running in group) and time.monotonic() < deadline:
                time.sleep(0.02)
            for running in group:
                if not running.group_is_gone():
                    running.signal(signal.SIGKILL)
                    running.process.wait()
        self._stopped.set()
