"""The language of a request: that of the cookie of who chose one, else the first that the browser asks for."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from flask import g, has_request_context, request

from services.web.languages.catalogues import ENGLISH, Language, offered

COOKIE: Final = "artseek_language"
KEPT_S: Final = 365 * 24 * 3600


def language() -> Language:
    """Return the language of the request that is answered; English outside of any."""
    if not has_request_context():
        return ENGLISH
    if "language" not in g:
        g.language = _chosen(request.cookies.get(COOKIE, "")) or _asked_for(request.accept_languages)
    found: Language = g.language
    return found


def _chosen(tag: str) -> Language | None:
    return offered().get(tag.lower())


def _asked_for(wanted: Iterable[tuple[str, float]]) -> Language:
    """Return the first language that is offered; ``de-AT`` is served by ``de`` (RFC 4647, lookup)."""
    for asked, quality in wanted:
        tag = asked.lower().replace("_", "-") if quality > 0 else ""
        while tag:
            if tag in offered():
                return offered()[tag]
            tag = tag.rpartition("-")[0]
    return ENGLISH


def others() -> list[Language]:
    """Return the languages that whoever asks could choose."""
    return [offer for offer in offered().values() if offer.tag != language().tag]


def script_texts() -> Mapping[str, Any] | None:
    """Return what the scripts of a page need to write its language; nothing for English, in which they are written."""
    return language().scripts
