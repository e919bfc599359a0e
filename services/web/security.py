"""What keeps other sites out: requests that they make a browser send, hosts they pretend to be, frames and scripts."""

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
    """Guard every request and answer of the application."""
    local = _is_local(_host_of(settings.web_listen))

    def guard() -> None:
        if local and not _is_local(_host_of(request.host), any_address=True):
            raise Problem(
                421,
                "misdirected",
                f"this service listens on this machine only and does not go by the name {request.host[:80]!r}: "
                "use localhost or 127.0.0.1, or have it listen on another address (ARTSEEK_WEB_LISTEN)",
            )
        if request.method not in _SAFE and _from_another_site():
            raise Problem(403, "cross-site", "this request was sent by a page of another site, which is not permitted")

    def harden(answer: Response) -> Response:
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        answer.headers.setdefault("Cache-Control", "no-cache")
        return answer

    app.before_request(guard)
    app.after_request(harden)


def _from_another_site() -> bool:
    """Whether a browser sent this on behalf of a page of another origin. Other programs send neither header."""
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
    """Whether a host means this machine; `any_address`: or is an address, which no foreign name can resolve to."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any_address or address.is_loopback
