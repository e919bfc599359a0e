"""The HTTP server on a port of its own, with an application of the test's choosing, and raw connections to it."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.web.http.limits import ServerLimits
from services.web.http.request import Admission, Admit, Head
from services.web.http.server import Server
from shared.addresses import Network
from tests.support.eventually import PATIENCE_S

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

NO_HURRY = 1e9
PATIENT = ServerLimits(header_s=NO_HURRY, idle_s=NO_HURRY, window_s=NO_HURRY, linger_s=NO_HURRY)
"""Limits under which nothing is late, however slow the machine."""


@dataclass
class RunningServer:
    """A server, and its port."""

    server: Server
    port: int
    thread: threading.Thread
    stop: Callable[[], None]

    def connect(self, data: bytes = b"") -> socket.socket:
        """Return a connection over which `data` was sent."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        made.sendall(data)
        return made

    def ask(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send a request over a connection of its own; returns status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def admit_all(_head: Head) -> Admission:
    """Admit any request of up to 1 MiB."""
    return Admission(most=2**20)


@contextmanager
def running(
    application: "WSGIApplication",
    *,
    limits: ServerLimits = PATIENT,
    threads: int = 2,
    per_client: int | None = None,
    admit: Admit = admit_all,
    proxies: Sequence[Network] = (),
) -> Iterator[RunningServer]:
    """Run a server during a block."""
    server = Server(
        application,
        listen="127.0.0.1:0",
        threads=threads,
        admit=admit,
        limits=limits,
        proxies=proxies,
        threads_per_client=per_client,
        urgent=frozenset({"/healthz"}),
    )
    stopped = threading.Event()
    thread = threading.Thread(target=server.run, args=(stopped.is_set,))
    thread.start()

    def stop() -> None:
        stopped.set()
        server.wake()

    try:
        yield RunningServer(server, int(server.effective_port), thread, stop)
    finally:
        with suppress(OSError):
            stop()
        thread.join()


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection; returns what came, also if it was cut off."""
    parts = []
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)
