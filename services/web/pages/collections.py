"""The pages of the collections: the list of all, and one collection with its images."""

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from services.web.api.inputs import CollectionPath, Input, Label, Page, checked
from services.web.clients import web_clients
from services.web.pages.fields import read_fields
from services.web.pages.samples import sample_images
from shared.errors import NotFound

_PAGE_SIZE = 48  # images of one page of a collection
_MOSAIC = 4  # images that stand for a collection in the list

blueprint = Blueprint("collections", __name__)


class CollectionView(Input):
    """Which page of a collection's images is shown, and of which class."""

    page: Page = 1
    label: Label = ""


@blueprint.get("/collections")
def collections_page() -> ResponseReturnValue:
    """Show all collections; redirect to a collection if its name is given."""
    if "name" in request.args:
        path = checked(CollectionPath, {"name": request.args["name"].strip()}, "collection")
        return redirect(url_for("collections.collection_page", name=path.name))
    collections = web_clients().query.collections()
    mosaics = {collection.name: sample_images(collection, _MOSAIC) for collection in collections}
    return render_template("collections.html", collections=collections, mosaics=mosaics)


@blueprint.get("/collections/<name>")
def collection_page(name: str) -> ResponseReturnValue:
    """Show a collection; a collection that does not exist yet can be created with an upload."""
    path = checked(CollectionPath, {"name": name}, "collection")
    view = read_fields(CollectionView, request.args.to_dict(flat=False))
    settings = web_clients().settings
    limits = {"max_file_bytes": settings.max_file_bytes, "max_upload_bytes": settings.max_upload_bytes}
    try:
        collection = web_clients().query.collection(path.name)
    except NotFound:
        return render_template("collection.html", name=path.name, collection=None, limits=limits)
    listing = web_clients().query.images(
        path.name, limit=_PAGE_SIZE, offset=(view.page - 1) * _PAGE_SIZE, label=view.label
    )
    return render_template(
        "collection.html",
        name=path.name,
        collection=collection,
        index=web_clients().catalog.current_report(path.name),
        classes=sorted(collection.classes.items(), key=lambda item: (-item[1], item[0])),
        images=listing.images,
        total=listing.total,
        view=view,
        pages=max(1, -(-listing.total // _PAGE_SIZE)),
        limits=limits,
    )
