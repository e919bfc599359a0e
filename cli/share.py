"""`artseek share`: links by which others look at a collection, or at some of its images, without a log-in."""

from typing import Any

import click

from cli.clients import System
from cli.command import RemoteSystem, command_anywhere
from cli.options import as_json_option, in_collection
from cli.printing.access import print_shares
from cli.printing.console import out, plain, print_json
from cli.users import BY, access_of
from shared.access import Access
from shared.access.audit import AuditLog
from shared.access.links import MOST_DAYS, MOST_IMAGES, ShareLink
from shared.access.signing import Signing, link_token
from shared.errors import Invalid, NotFound
from shared.schemas.access import ShareAnswer, SharesAnswer, share_answer
from shared.storage.layout import ID_BITS

_IMAGE_ID = click.IntRange(1, 2**ID_BITS - 1)


@click.group("share")
def share() -> None:
    """Make, list and revoke share links: whoever has one may look, without a log-in, until it ends."""


@share.command("create")
@in_collection
@click.option("--days", default=14, show_default=True, type=click.IntRange(1, MOST_DAYS), help="After which it ends.")
@click.option(
    "--image", "images", multiple=True, type=_IMAGE_ID, help="An image that it shows, instead of all; repeatable."
)
@click.option("--query", type=_IMAGE_ID, help="The image that these were found by.")
@as_json_option
@command_anywhere
def create_share(
    system: System | RemoteSystem,
    collection: str,
    days: int,
    images: tuple[int, ...],
    query: int | None,
    *,
    as_json: bool,
) -> None:
    """Make a share link of a collection, or of some of its images, and print its address."""
    if len(images) > MOST_IMAGES:
        raise Invalid(f"{len(images):,} images are given: a link shows {MOST_IMAGES:,} at most")
    answer: ShareAnswer
    if isinstance(system, RemoteSystem):
        values: dict[str, Any] = {"days": days, "images": list(images), "query": query}
        answer = system.api.post(_path(collection), values)
    else:
        _require(system, collection)
        what = f"{len(images)} images" if images else "the whole collection"
        _note(system, "make_share_link", collection, f"{what} for {days} days")
        link = access_of(system).create_link(collection, images=images, query=query or 0, days=days)
        answer = share_answer(link, _url(system, link))
    if as_json:
        print_json(answer)
    else:
        out.print(answer["url"], soft_wrap=True, markup=False)


@share.command("list")
@in_collection
@as_json_option
@command_anywhere
def list_shares(system: System | RemoteSystem, collection: str, *, as_json: bool) -> None:
    """List the share links of a collection that have not ended, the newest first."""
    answer: SharesAnswer
    if isinstance(system, RemoteSystem):
        answer = system.api.get(_path(collection))
    else:
        _require(system, collection)
        links = sorted(_links(system, collection), key=lambda link: -link.created)
        answer = SharesAnswer(shares=[share_answer(link, _url(system, link)) for link in links])
    if as_json:
        print_json(answer)
    else:
        print_shares(answer["shares"])


@share.command("revoke")
@click.argument("share_id", metavar="ID")
@in_collection
@command_anywhere
def revoke_share(system: System | RemoteSystem, share_id: str, collection: str) -> None:
    """End the share link with this ID at once."""
    if isinstance(system, RemoteSystem):
        if not share_id.isalnum():
            raise NotFound(f"{share_id[:80]!r} is no id of a share link")
        system.api.delete(f"{_path(collection)}/{share_id}")
    else:
        if share_id not in {link.id for link in _links(system, collection)}:
            raise NotFound(f"the collection {collection!r} has no share link {share_id[:80]!r}")
        _note(system, "revoke_share", collection, f"link {share_id}")
        access_of(system).revoke_link(share_id)
    out.print(f"{plain(share_id)} is revoked")


def _path(collection: str) -> str:
    return f"/collections/{collection}/shares"


def _require(system: System, collection: str) -> None:
    """Make sure that there is such a collection."""
    with system.query() as query:
        query.collection(collection)


def _links(system: System, collection: str) -> list[ShareLink]:
    """Return the share links of a collection that have not ended."""
    access = Access(access_of(system).load, lambda: "")
    return [link for link in access.links() if link.collection == collection]


def _note(system: System, what: str, collection: str, detail: str) -> None:
    AuditLog(system.store).begin(who=BY, what=what, collection=collection, detail=detail)


def _url(system: System, link: ShareLink) -> str:
    """Return the address of a link, below that of the page."""
    settings = system.settings
    page = settings.public_url or f"http://{settings.web_listen}"
    return f"{page.rstrip('/')}/shared/{link_token(Signing(access_of(system).signing_secrets), link)}"
