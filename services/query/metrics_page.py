"""The page with the query service's metrics, which Prometheus reads."""

import hmac
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_READ_S = 5.0  # for a request: who sends half of one must not keep a thread


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _READ_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name of the base class
        """Say nothing of each scrape."""


def serve(registry: CollectorRegistry, listen: str, *, token: str = "") -> Callable[[], None]:
    """Show the metrics at ``http://<listen>/metrics`` to whoever sends the token; returns what stops it.

    Raises:
        OSError: It cannot be listened there.
    """
    parts = urlsplit(f"//{listen}")
    host = parts.hostname or ""
    page = guarded(make_wsgi_app(registry), token)
    server = make_server(host, parts.port or 0, page, _Server6 if ":" in host else _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop


def guarded(page: "WSGIApplication", token: str) -> "WSGIApplication":
    """Return a page that shows itself to requests with the token alone; to all of them if the token is empty."""
    if not token:
        return page
    wanted = f"Bearer {token}".encode()

    def answer(environment: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = str(environment.get("HTTP_AUTHORIZATION", "")).encode("latin-1", "replace")
        if hmac.compare_digest(given, wanted):
            return page(environment, start_response)
        status = HTTPStatus.UNAUTHORIZED
        start_response(
            f"{status.value} {status.phrase}", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")]
        )
        return [b"send ARTSEEK_METRICS_TOKEN as Authorization: Bearer\n"]

    return answer
