"""Serves the application with gunicorn: one process with threads, since requests mostly wait for other servers."""

from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from shared.logs import configure
from shared.settings import Settings

_STALLED_S = 60.0  # a client that neither sends nor receives a byte for this long is disconnected


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": self._settings.web_listen,
            "workers": 1,
            "worker_class": "gthread",
            "threads": self._settings.web_threads,
            "timeout": 60,  # of the worker's heartbeat, not of a request
            "graceful_timeout": 20,
            "keepalive": 30,
            "limit_request_line": 8190,
            "limit_request_fields": 64,
            "limit_request_field_size": 8190,
            "forwarded_allow_ips": "",  # the scheme and address that a proxy claims are not used
            "control_socket_disable": True,
            "proc_name": "artseek-web",
            "loglevel": "warning",
            "pre_request": _limit_waiting,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Return the application; called in the worker, since gRPC channels do not survive a fork."""
        from services.web.app import create_app  # noqa: PLC0415 -- after the fork

        configure(self._settings.log_level)
        return create_app(self._settings)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests in progress are finished within 20 s."""
    _Server(settings).run()


def _limit_waiting(_worker: object, request: Any) -> None:
    request.unreader.sock.settimeout(_STALLED_S)
