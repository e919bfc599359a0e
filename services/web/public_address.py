"""The service under its public address: scheme, host and prefix, whatever a proxy in front makes of them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, current_app, request

from services.web.forwarded import client_address, is_trusted
from shared.addresses import PublicUrl, host_of, is_ip, networks
from shared.errors import Invalid
from shared.schemas.urls import set_url_prefix
from shared.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_CLAIMS = (  # what a proxy may say of a request, and so may anybody
    "HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_SCHEME", "HTTP_X_REAL_IP",
)  # fmt: skip
PEER = "artseek.peer"
"""Where the environment of a request keeps the address of the connection, which may be a proxy's."""


def attach(app: Flask, settings: Settings) -> None:
    """Have the application answer under its public address; call it when all routes are registered.

    Raises:
        Invalid: The path of the public address is that of a page.
    """
    public = public_url(settings)
    prefix = public.prefix if public else ""
    first = prefix.split("/")[1] if prefix else ""
    if first and first in {rule.rule.split("/")[1] for rule in app.url_map.iter_rules()}:
        raise Invalid(
            f"ARTSEEK_PUBLIC_URL={public} does not work: Artseek has pages below /{first} itself; take another"
        )
    app.config.update(
        APPLICATION_ROOT=prefix or "/",
        PREFERRED_URL_SCHEME=public.scheme if public else "http",
        SESSION_COOKIE_SECURE=public is not None and public.scheme == "https",
    )
    app.wsgi_app = PublicAddress(app.wsgi_app, settings)  # type: ignore[method-assign]


def public_url(settings: Settings) -> PublicUrl | None:
    """Return the public address, if there is one."""
    return PublicUrl.parse(settings.public_url) if settings.public_url else None


def cookies_are_secure() -> bool:
    """Return whether cookies are for HTTPS alone: a proxy may end it without a word of that to us."""
    return bool(current_app.config["SESSION_COOKIE_SECURE"]) or request.is_secure


class HostNames:
    """The names and addresses by which the service may be called.

    A page that its visitor's browser was made to take for ours, by a host name that suddenly means our address (DNS
    rebinding), sends its own name. So every IP address passes, and what means this machine, but no unknown name.
    """

    def __init__(self, settings: Settings) -> None:
        public = public_url(settings)
        listed = [name for name in settings.allowed_hosts.split(",") if name]
        own = [host_of(settings.web_listen), *([public.host] if public else []), *listed]
        self._names = frozenset(name for name in own if name and not name.startswith("*."))
        self._endings = tuple(name[1:] for name in listed if name.startswith("*."))

    def allow(self, authority: str) -> bool:
        """Return whether a request may be for this ``host`` or ``host:port``."""
        host = host_of(authority)
        if host in self._names or host == "localhost" or host.endswith((".localhost", *self._endings)):
            return True
        return is_ip(host)


class PublicAddress:
    """Middleware that puts a request into the terms of the public address.

    A proxy may hand on its own idea of the host, and the prefix or not: both work.
    """

    def __init__(self, application: "WSGIApplication", settings: Settings) -> None:
        self._application = application
        self._public = public_url(settings)
        self._proxies = networks(settings.trusted_proxies)
        self._hosts = HostNames(settings)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Handle a request."""
        peer = str(environ.get("REMOTE_ADDR", ""))
        environ[PEER] = peer
        trusted = is_trusted(peer, self._proxies)
        if trusted:
            environ["REMOTE_ADDR"] = client_address(peer, environ.get("HTTP_X_FORWARDED_FOR", ""), self._proxies)
        for name in _CLAIMS:
            environ.pop(name, None)
        set_url_prefix(self._public.prefix if self._public else "")
        if self._public:
            self._publish(environ, self._public, trusted=trusted)
        return self._application(environ, start_response)

    def _publish(self, environ: "WSGIEnvironment", public: PublicUrl, *, trusted: bool) -> None:
        host = environ.get("HTTP_HOST", "")
        if trusted and self._hosts.allow(host):
            host = environ["HTTP_HOST"] = public.netloc
        if host.lower() == public.netloc:
            environ["wsgi.url_scheme"] = public.scheme
        path = environ.get("PATH_INFO", "")
        if path == public.prefix or path.startswith(f"{public.prefix}/"):
            environ["PATH_INFO"] = path[len(public.prefix) :]
        environ["SCRIPT_NAME"] = public.prefix
