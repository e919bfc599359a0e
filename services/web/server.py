"""Serves the application: one process with threads, since requests mostly wait for other servers."""

from services.web.admission import admission_of
from services.web.app import create_app
from services.web.http.limits import ServerLimits
from services.web.http.server import Server
from services.web.public_address import public_url
from shared.access.openness import open_to_all
from shared.addresses import networks
from shared.settings import Settings
from shared.stopping import StopSignal

_KEPT_FREE = 2  # threads that one client leaves to the others
_MARGIN = 2**20  # bytes of an answer beside the original in it


def make_server(settings: Settings, *, limits: ServerLimits | None = None) -> Server:
    """Return the server of the settings; it listens, and answers when it is run."""
    app = create_app(settings)
    public = public_url(settings)
    paths = {"/healthz", f"{public.prefix}/healthz"} if public else {"/healthz"}
    alone = open_to_all(settings) and not settings.insecure
    return Server(
        app,
        listen=settings.web_listen,
        threads=settings.web_threads,
        admit=admission_of(app, settings),
        limits=limits or server_limits(settings),
        proxies=networks(settings.trusted_proxies),
        threads_per_client=settings.web_threads if alone else max(1, settings.web_threads - _KEPT_FREE),
        urgent=frozenset(paths),
    )


def server_limits(settings: Settings) -> ServerLimits:
    """Return what clients may take of a server with these settings."""
    return ServerLimits(
        connections=settings.web_connections,
        per_client=settings.web_connections_per_client,
        bodies=settings.web_threads * settings.max_upload_bytes,
        answer=settings.max_query_bytes + _MARGIN,
        held=settings.web_threads,
    )


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; requests in progress are finished within 20 s."""
    server = make_server(settings)
    stop = StopSignal(server.wake)
    server.run(lambda: stop.requested)
