"""A server that speaks Redis's protocol (RESP) and answers every command with the same error, whatever is asked."""

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


@contextmanager
def refusing_server(answer: str, *, handshake_too: bool = False) -> Iterator[str]:
    """Yield the URL of a server that answers with this error, also to what a client asks first if told so."""
    made = {"answer": f"-{answer}\r\n".encode(), "handshake_too": handshake_too}
    handler = type("Refusing", (_Handler,), made)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        finally:
            server.shutdown()
