"""Writes the audit log of requests: an entry before a view changes something, and afterwards what came of it."""

import logging
from collections.abc import Sequence
from typing import Final

from flask import Response, g, request

from services.web.clients import web_clients
from shared.access.audit import AuditEntry, AuditLog
from shared.errors import ArtseekError

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_log = logging.getLogger(__name__)


def begin(who: str, collection: str = "", *, what: str = "", detail: str = "") -> None:
    """Write an entry of what this request is about to change; one that changes nothing has none, but for a log-in.

    Raises:
        Unavailable: It cannot be written, so nothing is changed.
    """
    if (request.method in _SAFE and not what) or "audit" in g:
        return
    g.is_audited = True
    images = [int(text) for name, text in (request.view_args or {}).items() if name == "id" and str(text).isdecimal()]
    g.audit = AuditLog(web_clients().store).begin(
        who=who,
        what=what or (request.endpoint or "").rpartition(".")[2],
        address=request.remote_addr or "",
        collection=collection,
        images=images,
        detail=detail,
    )


def is_missing() -> bool:
    """Return whether this request may have changed something of which the log has no entry."""
    return request.method not in _SAFE and "is_audited" not in g


def note_images(images: Sequence[int]) -> None:
    """Add to the entry of this request which images it is about, before they are changed."""
    entry: AuditEntry | None = g.get("audit")
    if entry is not None:
        g.audit = AuditLog(web_clients().store).add_images(entry, images)


def note_detail(*details: str) -> None:
    """Add to the entry of this request what it is about, in words, before that is changed."""
    entry: AuditEntry | None = g.get("audit")
    if entry is not None:
        g.audit = AuditLog(web_clients().store).add_detail(entry, " ".join(details))


def finish(response: Response) -> Response:
    """Add what was answered to the entry of this request, if it has one."""
    entry: AuditEntry | None = g.pop("audit", None)
    if entry is not None:
        job = response.headers.get("Location", "").rpartition("/jobs/")[2] if response.status_code == 202 else ""
        try:
            AuditLog(web_clients().store).finish(entry, status=response.status_code, job=job[:64])
        except ArtseekError as error:
            _log.error("the audit log does not say what came of %s: %s", entry.id, error)
    return response
