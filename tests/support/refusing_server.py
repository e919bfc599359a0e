"""Servers that are not the Redis that was meant: whatever they are asked, they answer the same."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

# What a client sends on its own account before the first command.
_HANDSHAKE = {b"CLIENT", b"PING", b"SELECT", b"INFO", b"AUTH"}


class _Handler(socketserver.StreamRequestHandler):
    answer: ClassVar[bytes] = b""
    handshake_too: ClassVar[bool] = False

    def handle(self) -> None:
        while command := self._read():
            name = command[0].upper()
            friendly = name in _HANDSHAKE and not self.handshake_too
            self.wfile.write((b"+PONG" if name == b"PING" else b"+OK") + b"\r\n" if friendly else self.answer)

    def _read(self) -> list[bytes]:
        head = self.rfile.readline()
        words = []
        for _ in range(int(head[1:] or b"0")):
            size = int(self.rfile.readline()[1:])
            words.append(self.rfile.read(size + 2)[:-2])
        return words


class _Foreign(socketserver.BaseRequestHandler):
    answer: ClassVar[bytes] = b""

    def handle(self) -> None:
        while self.request.recv(4096):
            self.request.sendall(self.answer)


@contextmanager
def refusing_server(answer: str, *, handshake_too: bool = False) -> Iterator[str]:
    """Yield the URL of a server that answers with this error, also to what a client asks first if told so."""
    made = {"answer": f"-{answer}\r\n".encode(), "handshake_too": handshake_too}
    handler = type("Refusing", (_Handler,), made)
    with _serving(handler, 0) as port:
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def foreign_server(answer: bytes, port: int = 0) -> Iterator[str]:
    """Yield the URL of a server at a port that sends these bytes, of whatever protocol, for what it receives."""
    with _serving(type("Answering", (_Foreign,), {"answer": answer}), port) as served:
        yield f"redis://127.0.0.1:{served}/0"


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler], port: int) -> Iterator[int]:
    with _Server(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
