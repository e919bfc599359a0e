"""Share links: making and ending them, and what they show to whoever has one."""

from typing import Annotated

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web.access import BY_LINK, GuardedBlueprint, of_path
from services.web.access.gate import current_gate, note_authorized
from services.web.access.open_links import keep, link_of
from services.web.access.sharing import end_share, make_share, share_url, shares_of
from services.web.api.files import thumbnail_of
from services.web.api.inputs import CollectionPath, ImageId, ImagePath, Input, checked
from services.web.clients import web_clients
from services.web.languages import told
from services.web.pages.fields import read_fields
from shared.access.links import MOST_DAYS, MOST_IMAGES
from shared.errors import NotFound
from shared.rpc.query import Image

blueprint = GuardedBlueprint("links", __name__)


class LinkForm(Input):
    """What a new link is to show, and for how long."""

    days: Annotated[str, Field(pattern=r"^[0-9]{1,3}$")] = "14"
    hit: Annotated[list[ImageId], Field(max_length=MOST_IMAGES, default_factory=list)]
    query: Annotated[str, Field(pattern=r"^[0-9]{0,16}$")] = ""


class LinksView(Input):
    """Which link was just made."""

    made: Annotated[str, Field(pattern=r"^[0-9a-f]{0,32}$")] = ""


@blueprint.get("/collections/<name>/links", access=of_path("change"))
def links_page(name: str) -> ResponseReturnValue:
    """Show the share links of a collection."""
    path = checked(CollectionPath, {"name": name}, "collection")
    web_clients().query.collection(path.name)
    links = shares_of(path.name)
    return render_template(
        "links.html",
        name=path.name,
        links=links,
        addresses={link.id: share_url(link) for link in links},
        made=read_fields(LinksView, request.args.to_dict(flat=False)).made,
        most_days=MOST_DAYS,
    )


@blueprint.post("/collections/<name>/links", access=of_path("change"))
def make_link(name: str) -> ResponseReturnValue:
    """Make a share link, of the whole collection or of the images that a search found."""
    path = checked(CollectionPath, {"name": name}, "collection")
    web_clients().query.collection(path.name)
    form = read_fields(LinkForm, request.form.to_dict(flat=False))
    link = make_share(path.name, images=form.hit, query=int(form.query or 0), days=int(form.days))
    return redirect(url_for("links.links_page", name=path.name, made=link.id), 303)


@blueprint.post("/collections/<name>/links/<link>/revoke", access=of_path("change"))
def revoke_link(name: str, link: str) -> ResponseReturnValue:
    """End a share link."""
    path = checked(CollectionPath, {"name": name}, "collection")
    end_share(path.name, link)
    return redirect(url_for("links.links_page", name=path.name), 303)


@blueprint.get("/shared/<token>", access=BY_LINK)
def shared(token: str) -> ResponseReturnValue:
    """Show what a link shows; one of a whole collection leads there, and this browser keeps it."""
    link = link_of(current_gate().access, token)
    note_authorized()
    if not link.images:
        keep(link)
        return redirect(url_for("collections.collection_page", name=link.collection), 303)
    images = [image for number in link.images if (image := _image(link.collection, number)) is not None]
    query = _image(link.collection, link.query) if link.query else None
    return render_template("shared.html", link=link, token=token, images=images, query=query)


@blueprint.get("/shared/<token>/<id>/thumbnail", access=BY_LINK)
def shared_thumbnail(token: str, id: str) -> ResponseReturnValue:  # noqa: A002 -- as the API calls it
    """Return a small picture of an image that a link shows."""
    link = link_of(current_gate().access, token)
    path = checked(ImagePath, {"name": link.collection, "id": id}, "image")
    if path.id not in {*link.images, link.query}:
        raise NotFound(told("this link does not show the image %(id)s", id=str(path.id)))
    note_authorized()
    entry = web_clients().query.image(link.collection, path.id)
    return thumbnail_of(web_clients(), entry.digest, entry.size)


def _image(collection: str, image: int) -> Image | None:
    """Return an image, None if it is gone by now."""
    try:
        return web_clients().query.image(collection, image)
    except NotFound:
        return None
