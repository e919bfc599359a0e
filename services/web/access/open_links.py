"""Share links in a browser: a signed cookie keeps those that it has opened."""

from dataclasses import replace
from typing import Final

from flask import Flask, Response, g, request

from services.web.access.browser_sessions import browser_sessions
from services.web.languages import marked
from services.web.public_address import cookies_are_secure
from shared.access import Access, Requester
from shared.access.links import ShareLink
from shared.access.signing import link_id, link_token
from shared.errors import NotFound

COOKIE: Final = "artseek_links"
_MOST: Final = 20  # that a browser keeps; the oldest is forgotten first
_KEPT_S: Final = 30 * 24 * 3600


def attach(app: Flask) -> None:
    """Have answers keep the links that were opened."""
    app.after_request(_set_cookie)


def token_of(link: ShareLink) -> str:
    """Return what the address of a link ends with."""
    return link_token(browser_sessions().signing, link)


def link_of(access: Access, token: str) -> ShareLink:
    """Return the link with this token.

    Raises:
        NotFound: There is none, or it has ended.
    """
    name = link_id(browser_sessions().signing, token)
    link = access.link(name) if name is not None else None
    if link is None:
        raise NotFound(marked("this link does not lead anywhere any more: ask whoever gave it to you for another"))
    return link


def keep(link: ShareLink) -> None:
    """Keep a link of a whole collection in this browser."""
    g.links_cookie = [*(name for name in _kept() if name != link.id), link.id][-_MOST:]


def with_links(requester: Requester, access: Access) -> Requester:
    """Return a requester with the collections that the links of this browser open."""
    links = [link for name in _kept() if (link := access.link(name)) is not None and not link.images]
    return replace(requester, links=frozenset(link.collection for link in links)) if links else requester


def _kept() -> list[str]:
    cookie = request.cookies.get(COOKIE)
    text = browser_sessions().signing.read(cookie, salt=COOKIE) if cookie else None
    return text.split(",")[:_MOST] if text else []


def _set_cookie(response: Response) -> Response:
    kept: list[str] | None = g.get("links_cookie")
    if kept is not None:
        response.set_cookie(
            COOKIE,
            browser_sessions().signing.sign(",".join(kept), salt=COOKIE),
            max_age=_KEPT_S,
            path=request.script_root or "/",
            secure=cookies_are_secure(),
            httponly=True,
            samesite="Lax",
        )
    return response
