"""Makes, lists and ends the share links of a collection, for the API and the pages."""

from collections.abc import Sequence

from flask import url_for

from services.web.access.auditing import note_detail
from services.web.access.gate import current_gate, requester
from services.web.access.open_links import token_of
from services.web.access.setting_up import access_store
from services.web.languages import told
from shared.access.links import ShareLink
from shared.errors import NotFound


def make_share(collection: str, *, images: Sequence[int], query: int, days: int) -> ShareLink:
    """Make a share link of a collection, or of some of its images; it ends with the account or key that asks.

    Raises:
        Invalid: It is to last for no time, or too long.
    """
    asking = requester()
    note_detail(f"{len(images)} images" if images else "the whole collection", f"for {days} days")
    return access_store().create_link(
        collection,
        images=tuple(images),
        query=query,
        account=asking.account,
        key=asking.name if asking.kind == "key" else "",
        days=days,
    )


def shares_of(collection: str) -> list[ShareLink]:
    """Return the share links of a collection, the newest first."""
    links = [link for link in current_gate().access.links() if link.collection == collection]
    return sorted(links, key=lambda link: -link.created)


def end_share(collection: str, share: str) -> None:
    """End a share link of a collection.

    Raises:
        NotFound: The collection has none of this id.
    """
    found = current_gate().access.link(share)
    if found is None or found.collection != collection:
        raise NotFound(
            told("the collection %(name)s has no share link %(link)s", name=repr(collection), link=repr(share[:80]))
        )
    note_detail(f"link {found.id}")
    access_store().revoke_link(found.id)


def share_url(link: ShareLink) -> str:
    """Return the whole address of a share link."""
    return url_for("links.shared", token=token_of(link), _external=True)
