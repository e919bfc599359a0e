"""A decoding process as its pool sees it: started, asked, and ended."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

from shared.images.child_messages import READY, Answer, Malformed, Request, send, send_file

CHILD = "shared.images.decoding_child"
_ROOT = Path(__file__).resolve().parents[2]  # of the packages
_START_S = 120.0
_DYING_S = 10.0
_CHUNK = 64 * 1024
# What a process may know of our environment: nothing that is secret.
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")


class Died(Exception):
    """The process died, or was ended since it took too long or did not keep to the protocol.

    Attributes:
        status: Its exit status, negative for a signal.
        reason: Why it was ended; empty if it died by itself.
    """

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason

    @property
    def by_processor_time(self) -> bool:
        """Whether the kernel ended it since it took more processor time than it may."""
        return self.status == -signal.SIGXCPU

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        if self.status >= 0:
            return f"it ended with status {self.status}"
        with suppress(ValueError):
            return f"it died of {signal.Signals(-self.status).name}"
        return f"it died of signal {-self.status}"


class DecodingProcess:
    """A decoding process. It belongs to one thread at a time.

    Args:
        memory: Bytes that it may take beside those of its start.
        turn: A file that is locked while a large image is decoded.
        module: What it runs.

    Raises:
        Died: It did not start.
    """

    def __init__(self, *, memory: int, turn: int, module: str = CHILD) -> None:
        self._socket, theirs = socket.socketpair()
        self._life, their_life = socket.socketpair()  # nothing is ever sent here; it closes when we die
        with theirs, their_life:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(memory), str(turn), str(their_life.fileno())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                pass_fds=[turn, their_life.fileno()],
                start_new_session=True,  # a Ctrl-C is for the service, which may want to finish an image
            )
        self._received = memoryview(b"")  # and not read yet
        self._end_at = monotonic() + _START_S
        self._socket.settimeout(_START_S)
        try:
            ready = bytes(self.read(len(READY)))
        except (OSError, EOFError):
            ready = b""
        if ready != READY:
            raise Died(self.end())

    @property
    def alive(self) -> bool:
        """Whether it is there to be asked."""
        return self._process.poll() is None

    def ask(self, request: Request, data: bytes | int, *, clock_s: float) -> tuple[Answer, bytearray]:
        """Ask for something of an image, its bytes or an open file; returns the answer and its body.

        After an error the process is gone.

        Raises:
            Died: It died at it, or was ended after `clock_s` seconds; after as long again if it sends bit by bit.
        """
        self._end_at = monotonic() + clock_s
        try:
            self._socket.settimeout(clock_s)
            if isinstance(data, int):
                send_file(self._socket, request.pack(), data)
            else:
                send(self._socket, request.pack(), data)
            answer = Answer.read(self, request)
            return answer, self.read(answer.size)
        except TimeoutError:
            raise Died(self.end(at_once=True), f"it took more than {clock_s:g} s by the clock") from None
        except Malformed as error:
            raise Died(self.end(at_once=True), str(error)) from error
        except (OSError, EOFError) as error:
            raise Died(self.end()) from error

    def read(self, size: int, /) -> bytearray:
        """Read bytes of an answer."""
        data = bytearray(size)
        view = memoryview(data)
        while True:
            part, self._received = self._received[: len(view)], self._received[len(view) :]
            view[: len(part)] = part
            view = view[len(part) :]
            if not len(view):
                return data
            if monotonic() > self._end_at:
                raise TimeoutError
            if len(view) >= _CHUNK:
                received = self._socket.recv_into(view)
                view = view[received:]
            else:  # what follows is at hand then
                self._received = memoryview(self._socket.recv(_CHUNK))
                received = len(self._received)
            if not received:
                raise EOFError

    def end(self, *, at_once: bool = False) -> int:
        """End the process; returns its status. One that is dying by itself has the time to, unless `at_once`."""
        self._socket.close()
        self._life.close()
        if not at_once:
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(_DYING_S)
        self._process.kill()
        return self._process.wait()


def _environment(kept: Sequence[str] = _KEPT) -> dict[str, str]:
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    # Modules are looked for where we find them, wherever a container or a test has put them.
    path = os.pathsep.join([str(_ROOT), *filter(os.path.isabs, sys.path)])
    # One thread and one heap: more are of no use here, and each takes address space.
    single = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "VIPS_CONCURRENCY", "MALLOC_ARENA_MAX")
    return environment | {"PYTHONPATH": path} | dict.fromkeys(single, "1")
