"""The ways in: how a request says who sends it. Each is asked in turn; nobody is anonymous who tried and failed."""

import hmac
from collections.abc import Callable
from typing import Final

from flask import Request

from services.web.problems import Problem
from shared.access import Access, Grant, Requester

WayIn = Callable[[Request], Requester | None]
"""Returns who sends a request; None if it says nothing in this way."""

_SCHEME: Final = "bearer"
_OF_METRICS: Final = frozenset({"ops.metrics", "ops.readyz"})
PROMETHEUS: Final = Requester("key", "metrics", (Grant("viewer"),))


def refused(detail: str) -> Problem:
    """Return the problem of a key that lets nobody in (RFC 6750)."""
    return Problem(
        401,
        "unauthenticated",
        detail,
        headers={"WWW-Authenticate": 'Bearer realm="Artseek", error="invalid_token"'},
    )


class MetricsToken:
    """``Authorization: Bearer TOKEN`` of Prometheus: it may see the metrics and the state of the parts, and no more."""

    def __init__(self, token: str) -> None:
        """Take the token; an empty one lets nobody in."""
        self._token = token

    def __call__(self, request: Request) -> Requester | None:
        """Return that Prometheus asks, if it does."""
        sent = request.headers.get("Authorization", "").encode()
        if not self._token or request.endpoint not in _OF_METRICS:
            return None
        return PROMETHEUS if hmac.compare_digest(sent, f"Bearer {self._token}".encode()) else None


class ApiKeys:
    """``Authorization: Bearer KEY``."""

    def __init__(self, access: Access, note_use: Callable[[str], None]) -> None:
        """Take the keys that `access` knows; `note_use` is told the id of each that is used."""
        self._access, self._note_use = access, note_use

    def __call__(self, request: Request) -> Requester | None:
        """Return who holds the key that a request carries.

        Raises:
            Problem: It is no key, has ended, or was revoked.
        """
        scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        if scheme.lower() != _SCHEME:
            return None
        holder = self._access.holder_of(token.strip())
        if holder is None:
            raise refused("this API key is unknown, has ended or was revoked: make another with `artseek keys create`")
        self._note_use(holder.name)
        return holder
