"""A web server of pictures and traps, which the fetching of pictures is tried on."""

import gzip
import io
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

MOST = 300_000


def _png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((60, 40), 90).save(file, "PNG")
    return file.getvalue()


PICTURE = _png()
TOO_LONG = PICTURE + bytes(MOST)


class Server(ThreadingHTTPServer):
    """A web server of pictures and traps, which keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.stopping = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.close_connection = True
        path, _, query = self.path.partition("?")
        with suppress(OSError):
            if path == "/to":
                self._send(b"", {"Location": query.replace("PORT", str(self.server.port))}, status=302)
            elif path == "/nowhere":
                self._send(b"", status=302)
            elif path == "/missing":
                self._send(b"not here", status=404)
            elif path in SENT:
                self._send(SENT[path](), HEADERS.get(path))
            elif path == "/endless":
                self._endless(PICTURE, lambda: bytes(65_536))
            elif path == "/slow-body":
                self._endless(PICTURE, lambda: b"\0", wait=0.02)
            elif path == "/slow-head":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                while not self.server.stopping.wait(0.02):
                    self.wfile.write(b"y")
            elif path == "/silent":
                self.server.stopping.wait()
            elif path == "/not-http":
                self.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
            elif path == "/cut":
                self._send(PICTURE[:100], length=len(PICTURE))
            else:
                self._send(PICTURE)

    def _send(
        self, body: bytes, headers: dict[str, str] | None = None, *, status: int = 200, length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Set-Cookie", "session=1")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _endless(self, head: bytes, more: Callable[[], bytes], *, wait: float = 0.0) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(head)
        while not self.server.stopping.wait(wait):
            self.wfile.write(more())

    def log_message(self, *_: object) -> None: ...


def _deflated_often(times: int) -> bytes:
    data = PICTURE + bytes(30_000_000)
    for _ in range(times):
        data = gzip.compress(data, 1)
    return data


SENT: dict[str, Callable[[], bytes]] = {
    "/html": lambda: b"<!doctype html><html><title>A page</title></html>",
    "/svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "/zip": lambda: b"PK\x03\x04" + bytes(100),
    "/empty": lambda: b"",
    "/too-long": lambda: TOO_LONG,
    "/gzip": lambda: gzip.compress(PICTURE),
    "/bomb": lambda: _deflated_often(1),
    "/bomb-twice": lambda: _deflated_often(2),
    "/broken-gzip": lambda: b"\x1f\x8b\x08" + bytes(40),
    "/picture-as-page": lambda: PICTURE,
}
HEADERS: dict[str, dict[str, str]] = {
    "/html": {"Content-Type": "image/png"},
    "/picture-as-page": {"Content-Type": "text/html"},
    "/gzip": {"Content-Encoding": "gzip"},
    "/bomb": {"Content-Encoding": "gzip"},
    "/bomb-twice": {"Content-Encoding": "gzip, gzip"},
    "/broken-gzip": {"Content-Encoding": "gzip"},
}
