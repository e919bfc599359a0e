"""Protection against other web sites: cross-site requests, DNS rebinding, framing and foreign scripts."""

import ipaddress
from urllib.parse import urlsplit

from flask import Flask, Response, request

from services.web.problems import Problem
from shared.settings import Settings

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def attach(app: Flask, settings: Settings) -> None:
    """Check every request to the application and add security headers to every response."""
    listens_locally = _is_local(_host_of(settings.web_listen))

    def refuse_foreign_requests() -> None:
        if listens_locally and not _is_local(_host_of(request.host), any_address=True):
            raise Problem(
                421,
                "misdirected",
                f"this service listens on this machine only and does not go by the name {request.host[:80]!r}: "
                "use localhost or 127.0.0.1, or have it listen on another address (ARTSEEK_WEB_LISTEN)",
            )
        if request.method not in _SAFE and _from_another_site():
            raise Problem(403, "cross-site", "this request was sent by a page of another site, which is not permitted")

    def add_headers(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-cache")
        return response

    app.before_request(refuse_foreign_requests)
    app.after_request(add_headers)


def _from_another_site() -> bool:
    """Return whether a browser sent the request for a page of another origin. Other programs send neither header."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != request.host


def _host_of(address: str) -> str:
    """Return the host of ``host:port``, without the brackets of an IPv6 address."""
    try:
        return urlsplit(f"//{address}").hostname or ""
    except ValueError:
        return ""


def _is_local(host: str, *, any_address: bool = False) -> bool:
    """Return whether a host means this machine.

    With `any_address`, every IP address passes: DNS rebinding needs a host name.
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any_address or address.is_loopback
