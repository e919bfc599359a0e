"""A connection: what it waits for at the moment, for how long it may, and how it ends."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask

from services.web.forwarded import address_group, client_address, is_trusted
from services.web.http.request import REFUSAL, Admission, Request, last_words

if TYPE_CHECKING:
    from services.web.http.server import Server

_PIECE = 256 * 1024  # bytes of an answer that are handed on at a time, so that no second copy of it is made
_TIMED_OUT = last_words("408 Request Timeout", "The request came too slowly.")


class Phase(IntEnum):
    """What a connection waits for; those that are the first to go where others need the place come first."""

    IDLE = 0  # another request
    HEADER = 1  # the first bytes of a request, or the rest of its header
    LINGERING = 2  # the rest of a refused request
    BODY = 3
    ANSWER = 4  # the client reads it
    WORK = 5  # the application has it


class _Task(WSGITask):  # type: ignore[misc]
    def build_response_header(self) -> bytes:
        if self.request.refusal or self.channel.server.stopping:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header

    def write(self, data: bytes) -> None:
        if self.wrote_header or len(data) > _PIECE:
            super().write(data)
            return
        with self.channel.sending_together():  # header and body: one packet, for which the client wakes once
            super().write(data)

    def get_environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = super().get_environment()
        if self.request.refusal:
            environment[REFUSAL] = self.request.refusal
        return environment


class Connection(HTTPChannel):  # type: ignore[misc]
    """A connection of the server; only the server's own thread calls what is defined here, but for `write_soon`.

    Attributes:
        client: The IP address of the client; behind trusted proxies that of the request at hand.
        through_proxy: Whether a trusted proxy made the connection.
        holds_thread: Whether a thread waits for the client to read, so that it can make the rest of a large answer.
    """

    task_class = _Task
    error_task_class = ErrorTask

    def __init__(
        self,
        server: "Server",
        sock: socket.socket,
        addr: tuple[str, int],
        adj: Adjustments,
        map: dict[int, Any] | None = None,  # noqa: A002 -- as waitress calls it
    ) -> None:
        self.close_when_flushed = False
        self._limits = server.limits
        self.client = self.peer = addr[0]
        self.through_proxy = is_trusted(self.peer, server.proxies)
        self.holds_thread = False
        self._moved = 0  # bytes of bodies and answers
        self._answered = 0  # requests
        self._seen: tuple[Phase, object] = (Phase.IDLE, 0)
        self._since = time.monotonic()  # of the window of time over which progress is measured
        self._moved_then = 0
        self._lingering = False
        self._together: list[bytes] | None = None
        super().__init__(server, sock, addr, adj, map=map)
        self.parser_class = self._new_request
        server.newcomers.append(self)

    @property
    def turn(self) -> str:
        """Whose request is worked on: see `FairDispatcher`."""
        return address_group(self.client)

    @property
    def urgent(self) -> bool:
        """Whether the request asks whether the service lives."""
        return bool(self.requests) and self.server.is_urgent(self.requests[0].path)

    @property
    def phase(self) -> Phase:
        """What the connection waits for."""
        if self._lingering:
            return Phase.LINGERING
        if self.total_outbufs_len:
            return Phase.ANSWER
        if self.requests:
            return Phase.WORK
        if self.request is None:
            return Phase.IDLE if self._answered else Phase.HEADER
        return Phase.BODY if self.request.headers_finished else Phase.HEADER

    @property
    def body_bytes(self) -> int:
        """Bytes kept of a body that is not whole yet."""
        request = self.request
        return request.body_bytes_received if request is not None else 0

    def look(self, now: float) -> None:
        """Close the connection if it has waited too long for what it waits for."""
        phase, limits = self.phase, self._limits
        seen = (phase, self.request if phase in {Phase.HEADER, Phase.BODY} else self._answered)
        if seen != self._seen:
            self._seen = seen
            self._begin_window(now)
            return
        waited = now - self._since
        match phase:
            case Phase.IDLE:
                late = waited > limits.idle_s
            case Phase.HEADER:
                late = now - self.waits_since() > limits.header_s
            case Phase.LINGERING:
                late = waited > limits.linger_s
            case Phase.BODY | Phase.ANSWER if waited > limits.window_s:
                least = limits.slow_rate if self.holds_thread else limits.least_rate
                late = self._moved - self._moved_then < least * waited
                self._begin_window(now)
            case _:
                late = False
        if late:
            self.give_up()

    def forgive(self, seconds: float, now: float) -> None:
        """Do not count a time in which the server itself read nothing: what the client sent then waits to be read."""
        self._since = min(self._since + seconds, now)
        if self.request is not None:
            self.request.begun = min(self.request.begun + seconds, now)

    def give_up(self) -> None:
        """Close the connection; a client that is still sending is told why."""
        if self.request is not None and self.phase in {Phase.HEADER, Phase.BODY}:
            with self.outbuf_lock:
                self.outbufs[-1].append(_TIMED_OUT)
                self.total_outbufs_len += len(_TIMED_OUT)
                self._flush_exception(self._flush_some, do_close=False)
        self.handle_close()  # at once: the socket of a client that reads nothing never becomes writable

    def rate(self, now: float) -> float:
        """Return the bytes per second that move at the moment; what has begun just now counts as a second."""
        return (self._moved - self._moved_then) / max(now - self._since, 1.0)

    def waits_since(self) -> float:
        """Return since when the connection waits for the same, in seconds of the monotonic clock."""
        return self.request.begun if self.phase == Phase.HEADER and self.request is not None else self._since

    # What waitress calls

    def received(self, data: bytes) -> bool:
        """Take bytes that came in."""
        self._moved += len(data)
        return bool(super().received(data))

    def send(self, data: bytes, do_close: bool = True) -> int:  # noqa: FBT001, FBT002 -- as waitress
        """Send bytes; returns how many went out."""
        sent = int(super().send(data, do_close=do_close) or 0)
        self._moved += sent
        return sent

    def write_soon(self, data: Any) -> int:
        """Keep a part of an answer until it is sent; a thread of the application calls it."""
        if self._together is not None and isinstance(data, bytes):
            self._together.append(data)
            return len(data)
        if not isinstance(data, bytes) or len(data) <= _PIECE:
            return int(super().write_soon(data))
        view = memoryview(data)
        for at in range(0, len(data), _PIECE):
            super().write_soon(bytes(view[at : at + _PIECE]))
        return len(data)

    @contextmanager
    def sending_together(self) -> Iterator[None]:
        """Send the parts of an answer that are kept during the block at once; a thread of the application calls it."""
        parts = self._together = []
        try:
            yield
        finally:
            self._together = None
            self.write_soon(b"".join(parts))

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Wait until the client has read enough for more to be kept; another thread works for the others meanwhile."""
        if self.total_outbufs_len <= self.adj.outbuf_high_watermark:
            return
        with self.server.task_dispatcher.waiting_for_client():
            self.holds_thread = True
            try:
                super()._flush_outbufs_below_high_watermark()
            finally:
                self.holds_thread = False

    def service(self) -> None:
        """Work on a request; a thread of the application calls it."""
        super().service()
        self._answered += 1

    def readable(self) -> bool:
        """Return whether bytes are awaited."""
        return self._lingering or bool(super().readable())

    def handle_read(self) -> None:
        """Take what came, or drop it if the request was refused."""
        if not self._lingering:
            super().handle_read()
            return
        try:
            if self.recv(self.adj.recv_bytes):
                return
        except OSError:
            pass
        self.handle_close()

    def handle_write(self) -> None:
        """Send what is kept, and close the connection if that was the last.

        A client that still sends would be cut off before it has read the answer. So its side is read to the end.
        """
        closes = bool(self.close_when_flushed)
        if self.will_close or not closes or self.requests:
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.will_close:
            self.handle_close()
        elif self.connected and not self.total_outbufs_len:
            self.close_when_flushed = False
            self._linger()

    def _linger(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()
            return
        self._lingering = True
        self._begin_window(time.monotonic())
        self._seen = (Phase.LINGERING, self._answered)

    def _begin_window(self, now: float) -> None:
        self._since, self._moved_then = now, self._moved

    def _new_request(self, adjustments: Adjustments) -> Request:
        return Request(adjustments, self._limits, self._admit)

    def _admit(self, request: Request) -> Admission:
        if self.through_proxy:
            self.client = client_address(self.peer, request.headers.get("X_FORWARDED_FOR", ""), self.server.proxies)
        admission: Admission = self.server.admit_request(self, request.head(self.client))
        return admission
