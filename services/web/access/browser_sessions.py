"""Sessions of browsers: a signed cookie with a random id, of which Redis knows the account.

A session ends after a week without use, after a month, by logging out, and as soon as the account has another password
or is given other roles. It gets a new id at each log-in and each day.
"""

from typing import Final

from flask import Flask, Request, Response, current_app, g, request

from services.web.clients import EXTENSION, WebClients, web_clients
from services.web.public_address import cookies_are_secure
from shared.access import Access, AccessStore, Account, Requester
from shared.access.signing import Signing
from shared.state.sessions import KEPT_S

COOKIE: Final = "artseek_session"
_NAME: Final = "artseek-sessions"
_ENDED: Final = ""


class BrowserSessions:
    """The way in of those who have logged in by a browser."""

    def __init__(self, access: Access, signing: Signing) -> None:
        self._access, self.signing = access, signing

    def __call__(self, sent: Request) -> Requester | None:
        """Return whose session a request belongs to; a cookie of one that has ended says nothing, and is taken back.

        Raises:
            Unavailable: Redis, which has the sessions, does not answer.
        """
        cookie = sent.cookies.get(COOKIE)
        if not cookie:
            return None
        session = self.signing.read(cookie, salt=COOKIE)
        found = web_clients().state.sessions.get(session) if session is not None else None
        account = self._access.account(found.account) if found is not None else None
        if session is None or found is None or account is None or account.stamp != found.stamp:
            g.session_cookie = _ENDED
            return None
        g.session = session
        rotated = web_clients().state.sessions.rotate(session, found)
        if rotated is not None:
            g.session, g.session_cookie = rotated, self.signing.sign(rotated, salt=COOKIE)
        return Requester("account", account.name, account.grants)

    def begin(self, account: Account) -> None:
        """Log this browser in to an account, under an id that nobody knew before; a session that it had ends."""
        self._forget()
        session = web_clients().state.sessions.begin(account.name, account.stamp)
        g.session_cookie = self.signing.sign(session, salt=COOKIE)

    def end(self) -> None:
        """Log this browser out."""
        self._forget()
        g.session_cookie = _ENDED

    def _forget(self) -> None:
        cookie = request.cookies.get(COOKIE)
        session = self.signing.read(cookie, salt=COOKIE) if cookie else None
        for known in {session, g.get("session")} - {None}:
            web_clients().state.sessions.end(str(known))


def attach(app: Flask, access: Access) -> BrowserSessions:
    """Return the way in of browsers, and have answers set and take back its cookie."""
    clients: WebClients = app.extensions[EXTENSION]
    sessions = BrowserSessions(access, Signing(AccessStore(clients.store, clients.state).signing_secrets))
    app.extensions[_NAME] = sessions
    app.after_request(_set_cookie)
    return sessions


def browser_sessions() -> BrowserSessions:
    """Return the sessions of the application that answers this request."""
    found: BrowserSessions = current_app.extensions[_NAME]
    return found


def has_session() -> bool:
    """Return whether this request came with a session, which can be ended; a proxy may have let it in instead."""
    return "session" in g


def _set_cookie(response: Response) -> Response:
    value = g.get("session_cookie")
    if value is None:
        return response
    path = request.script_root or "/"
    if value == _ENDED:
        response.delete_cookie(COOKIE, path=path, secure=cookies_are_secure(), httponly=True, samesite="Lax")
    else:
        response.set_cookie(
            COOKIE, value, max_age=KEPT_S, path=path, secure=cookies_are_secure(), httponly=True, samesite="Lax"
        )
    return response
