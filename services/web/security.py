"""Protection against other web sites: cross-site requests, DNS rebinding, framing and foreign scripts.

And against shared caches: an answer with a cookie is for one browser alone, whatever its view thinks of caches.
"""

from flask import Flask, Response, request

from services.web.access.gate import is_open_to_named_sites
from services.web.languages import marked, told
from services.web.problems import Problem
from services.web.public_address import HostNames, public_url
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
    hosts, public = HostNames(settings), public_url(settings)
    public_origin = f"{public.scheme}://{public.netloc}" if public else ""

    def refuse_foreign_requests() -> None:
        if not hosts.allow(request.host):
            raise Problem(
                421,
                "misdirected",
                told(
                    "this service does not go by the name %(name)s: use its IP address or localhost, "
                    "or name the host in ARTSEEK_ALLOWED_HOSTS or ARTSEEK_PUBLIC_URL",
                    name=repr(request.host[:80]),
                ),
            )
        if request.method not in _SAFE and _from_another_site(public_origin) and not is_open_to_named_sites():
            raise Problem(
                403,
                "cross-site",
                marked(
                    "this request was sent by a page of another site, which is not permitted; if it was a page of "
                    "Artseek behind a proxy, ARTSEEK_PUBLIC_URL has to be the address that the browser shows"
                ),
            )

    def add_headers(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-cache")
        if "Set-Cookie" in response.headers and not (response.cache_control.private or response.cache_control.no_store):
            response.headers["Cache-Control"] = "private, no-cache"
        return response

    app.before_request(refuse_foreign_requests)
    app.after_request(add_headers)


def _from_another_site(public_origin: str) -> bool:
    """Return whether a browser sent the request for a page of another origin. Other programs send neither header."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    if origin is None or origin == public_origin:
        return False
    scheme, _, host = origin.partition("://")
    if host != request.host:
        return True
    # A proxy that ends TLS and hands on the host is told of by no setting, as long as none names the public address.
    return public_origin != "" and scheme != request.scheme
