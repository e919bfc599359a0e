"""Handing requests over: one process of a query service has another answer a request, over a socket of the two.

A connection carries one request at a time, and is kept for the next one. Requests and answers go over it as the bytes
that clients send and get, behind a head that says how long they are.
"""

import json
import logging
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn, Self

import grpc

_log = logging.getLogger(__name__)

_REQUEST: Final = struct.Struct("<dHQ")  # seconds that are left for it, bytes of the method's name, and of the request
_REPLY: Final = struct.Struct("<?Q")  # whether the request was answered, and the bytes of the answer or the refusal
_PART: Final = 2**16  # bytes read at a time
_LONGEST_S: Final = 86_400.0  # that a request may take: gRPC says of one without a deadline that endless time is left
_WAITING: Final = 64  # connections that wait to be accepted

Metadata = Sequence[tuple[str, str]]
Answer = Callable[[bytes, Any], bytes]
"""Answers a request, given a context of gRPC, or what stands for it; an error is a status, by `abort`."""


class Refused(Exception):
    """A request is refused, with a status of gRPC, and metadata behind the answer."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Metadata = ()) -> None:
        super().__init__(details)
        self.code, self.details, self.metadata = code, details, metadata

    def pack(self) -> bytes:
        """Return it as it goes over a connection."""
        return json.dumps([self.code.name, self.details, list(self.metadata)]).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Return what `pack` has packed."""
        code, details, metadata = json.loads(data)
        return cls(grpc.StatusCode[code], details, [(key, value) for key, value in metadata])


class HandedContext:
    """The context of a request that was handed over, as far as our handlers use `grpc.ServicerContext`."""

    def __init__(self, time_left_s: float | None) -> None:
        self._until = None if time_left_s is None else time.monotonic() + time_left_s
        self._code: grpc.StatusCode | None = None
        self._metadata: Metadata = ()

    def time_remaining(self) -> float | None:
        """Return the seconds that are left; None: as many as it takes."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def code(self) -> grpc.StatusCode | None:
        """Return the status that the request was refused with."""
        return self._code

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Set what is sent behind the answer."""
        self._metadata = metadata

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Refuse the request."""
        self._code = code
        raise Refused(code, details, self._metadata)


class OtherProcess:
    """Another process, which answers requests at the socket `path`."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._idle: list[socket.socket] = []  # appending and popping need no lock

    def answer(self, method: str, request: bytes, time_left_s: float | None) -> bytes:
        """Return the answer of a method, within so many seconds; None: as many as it takes.

        Raises:
            Refused: The process refuses the request.
            TimeoutError: No time is left.
            OSError: The process is not there, or has ended before the answer was sent.
        """
        if time_left_s is not None:
            time_left_s = min(time_left_s, _LONGEST_S)
            if time_left_s <= 0:
                raise TimeoutError("no time is left for the request")
        connection = self._connection()
        try:
            connection.settimeout(time_left_s)
            name = method.encode()
            seconds = math.inf if time_left_s is None else time_left_s
            _send(connection, _REQUEST.pack(seconds, len(name), len(request)) + name, request)
            data = _received(connection, _REPLY, 1)
            if not data:
                raise ConnectionResetError("the other process closed the connection")
        except BaseException as error:
            connection.close()
            if not isinstance(error, TimeoutError):
                self.close()  # it has ended: the others lead nowhere either
            raise
        self._idle.append(connection)
        if _REPLY.unpack_from(data)[0]:
            return data[_REPLY.size :]
        raise Refused.unpack(data[_REPLY.size :])

    def close(self) -> None:
        """Close the connections that carry no request."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _connection(self) -> socket.socket:
        with suppress(IndexError):
            return self._idle.pop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            raise
        return connection


class HandoverServer:
    """Answers requests that other processes hand over, at a socket, by the handlers of their methods."""

    def __init__(self, path: Path, handlers: Mapping[str, Answer]) -> None:
        self._path, self._handlers = path, handlers
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._stopped = False

    def start(self) -> None:
        """Begin to listen, in place of a process that had the socket and has died."""
        self._path.unlink(missing_ok=True)
        self._listener.bind(str(self._path))
        self._listener.listen(_WAITING)
        threading.Thread(target=self._accept, name="handover", daemon=True).start()

    def stop(self, grace_s: float) -> None:
        """Take no more requests, and let what has begun finish for so many seconds."""
        with self._lock:
            self._stopped = True
            serving = dict(self._connections)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which wakes the thread that accepts
        self._listener.close()
        for connection in serving:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # what was sent before is still read
        until = time.monotonic() + grace_s
        for thread in serving.values():
            thread.join(max(0.0, until - time.monotonic()))

    def _accept(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), name="handed", daemon=True)
                with self._lock:
                    if self._stopped:
                        connection.close()
                        return
                    self._connections[connection] = thread
                    thread.start()  # here, so that `stop` finds none that was not started

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):  # the other process has ended
                while data := _received(connection, _REQUEST, 2):
                    seconds, name_size, _ = _REQUEST.unpack_from(data)
                    start = _REQUEST.size + name_size
                    context = HandedContext(None if math.isinf(seconds) else seconds)
                    is_answer, body = self._reply(data[_REQUEST.size : start].decode(), data[start:], context)
                    _send(connection, _REPLY.pack(is_answer, len(body)), body)
        finally:
            with self._lock:
                self._connections.pop(connection, None)

    def _reply(self, method: str, request: bytes, context: HandedContext) -> tuple[bool, bytes]:
        """Return whether a request was answered, and the answer or the refusal."""
        handler = self._handlers.get(method)
        if handler is None:
            return False, Refused(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {method}").pack()
        try:
            return True, handler(request, context)
        except Refused as refusal:
            return False, refusal.pack()
        except Exception as error:
            _log.exception("a request of %s that was handed over failed", method)
            return False, Refused(grpc.StatusCode.UNKNOWN, f"Exception calling application: {error}").pack()


def _send(connection: socket.socket, head: bytes, body: bytes) -> None:
    if len(body) <= _PART:
        connection.sendall(head + body)
    else:
        connection.sendall(head)
        connection.sendall(body)


def _received(connection: socket.socket, head: struct.Struct, sizes: int) -> bytes:
    """Return a head, of which the last numbers are so many sizes, and what it announces; empty: nothing comes any more.

    Raises:
        ConnectionResetError: The connection ends in the middle.
    """
    data = connection.recv(_PART)
    wanted = head.size
    while True:
        if len(data) >= head.size:
            wanted = head.size + sum(head.unpack_from(data)[-sizes:])
        if len(data) >= wanted or not data:
            return data
        parts, missing = [data], wanted - len(data)
        while missing > 0:
            part = connection.recv(min(missing, 16 * _PART))
            if not part:
                raise ConnectionResetError("the connection ended in the middle of a request or an answer")
            parts.append(part)
            missing -= len(part)
        data = b"".join(parts)
