"""Makes the gate of an application from its settings: who may do what as the object store says, and the ways in."""

import threading
import time
from typing import Final

from flask import Flask, current_app

from services.web.access import browser_sessions, open_links
from services.web.access.gate import Gate
from services.web.access.log_in_address import log_in_address
from services.web.access.openid_provider import OpenIdProvider
from services.web.access.proxy_header import ProxyHeader
from services.web.access.ways_in import ApiKeys, MetricsToken
from services.web.clients import EXTENSION, WebClients
from services.web.languages import marked
from shared.access import Access, AccessStore, open_to_all
from shared.errors import NotFound, Unavailable
from shared.settings import Settings
from shared.state import connect
from shared.state.access_marks import AccessMarks

_PROVIDER: Final = "artseek-openid-provider"
_STORE: Final = "artseek-access-store"
_TIMEOUT_S: Final = 1.0  # of Redis, which every request asks: without it, what is known counts for a while
_NOTED_S: Final = 60.0


class KeyUses:
    """Notes when keys are used, each once a minute; a use that cannot be noted is passed over."""

    def __init__(self, marks: AccessMarks) -> None:
        self._marks = marks
        self._noted: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, key: str) -> None:
        """Note that a key is used now."""
        now = time.monotonic()
        with self._lock:
            if now - self._noted.get(key, float("-inf")) < _NOTED_S:
                return
            self._noted[key] = now
        try:
            self._marks.note_use(key)
        except Unavailable:
            return


def from_clients(app: Flask, settings: Settings) -> Gate:
    """Return the gate for the settings; nothing is sent yet."""
    marks = AccessMarks(connect(settings.index_url.get_secret_value(), timeout_s=_TIMEOUT_S, retries=1))
    access = Access(store_of(app).load, marks.version)
    gate = Gate(access, needs_log_in=not open_to_all(settings), log_in_page=log_in_address)
    gate.ways_in.append(MetricsToken(settings.metrics_token.get_secret_value()))
    gate.ways_in.append(ApiKeys(access, KeyUses(marks).note))
    if settings.proxy_user_header:
        gate.ways_in.append(ProxyHeader(settings, access, store_of(app)))
    gate.ways_in.append(browser_sessions.attach(app, access))
    open_links.attach(app)
    app.extensions[_PROVIDER] = OpenIdProvider(settings) if settings.oidc_issuer else None
    return gate


def openid_provider() -> OpenIdProvider:
    """Return the OpenID provider that people log in with.

    Raises:
        NotFound: There is none.
    """
    provider: OpenIdProvider | None = current_app.extensions.get(_PROVIDER)
    if provider is None:
        raise NotFound(marked("people log in with a password here: no OpenID provider is set (ARTSEEK_OIDC_ISSUER)"))
    return provider


def access_store() -> AccessStore:
    """Return what changes accounts, keys and collections, for the application that answers this request."""
    return store_of(current_app)


def store_of(app: Flask) -> AccessStore:
    """Return what changes accounts, keys and collections for an application: the same for all requests.

    It knows what it has read, so that no request reads all again.
    """
    clients: WebClients = app.extensions[EXTENSION]
    made: tuple[WebClients, AccessStore] | None = app.extensions.get(_STORE)
    if made is None or made[0] is not clients:
        made = app.extensions[_STORE] = clients, AccessStore(clients.store, clients.state)
    return made[1]
