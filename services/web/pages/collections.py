"""The pages of the collections: the list of all, and one collection with its images."""

from dataclasses import dataclass
from typing import Annotated

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web import regions, renaming
from services.web.access import GuardedBlueprint, each, may, of_path, seen_collections
from services.web.access.gate import new_name
from services.web.api.inputs import READ_FLAG, CollectionPath, Input, checked
from services.web.clients import web_clients
from services.web.languages import said, translated
from services.web.pages.facets import CollectionView, facets_of, page_address
from services.web.pages.fields import read_fields
from services.web.pages.samples import sample_images
from services.web.problems import Problem
from services.web.removal import drop_collection
from shared.errors import Invalid, NotFound
from shared.passed_over import passed_over_rules
from shared.schemas.regions import regions_answer
from shared.storage.layout import collection_name

_PAGE_SIZE = 48  # images of one page of a collection
_MOSAIC = 4  # images that stand for a collection in the list

blueprint = GuardedBlueprint("collections", __name__)


class DeletionForm(Input):
    """The name of a collection, typed by whoever wants it deleted."""

    typed: str = ""


class RenameForm(Input):
    """The name that a collection is to have."""

    new: str = ""


@dataclass(frozen=True)
class Refused:
    """A name that a collection was not given, and why."""

    name: str
    reason: str


class RegionsForm(Input):
    """Whether regions of the images are to be indexed."""

    regions: Annotated[bool, READ_FLAG]


class CollectionsView(Input):
    """Which collection is on its way out while the list is shown."""

    deleting: Annotated[str, Field(pattern=r"^[a-z0-9_-]{0,63}$")] = ""


@blueprint.get("/collections", access=each("look"))
def collections_page() -> ResponseReturnValue:
    """Show all collections; redirect to a collection if its name is given."""
    if "name" in request.args:
        path = checked(CollectionPath, {"name": request.args["name"].strip()}, "collection")
        return redirect(url_for("collections.collection_page", name=path.name))
    collections = seen_collections()
    view = read_fields(CollectionsView, request.args.to_dict(flat=False))
    mosaics = {
        collection.name: [] if collection.name == view.deleting else sample_images(collection, _MOSAIC)
        for collection in collections
    }
    return render_template("collections.html", collections=collections, mosaics=mosaics, deleting=view.deleting)


@blueprint.get("/collections/<name>", access=of_path("look"))
def collection_page(name: str) -> ResponseReturnValue:
    """Show a collection; a collection that does not exist yet can be created with an upload."""
    path = checked(CollectionPath, {"name": name}, "collection")
    return _render_collection(path, read_fields(CollectionView, request.args.to_dict(flat=False)))


@blueprint.post("/collections/<name>/delete", access=of_path("change"))
def delete_collection(name: str) -> ResponseReturnValue:
    """Delete a collection if its name was typed; works without scripts."""
    path = checked(CollectionPath, {"name": name}, "collection")
    form = read_fields(DeletionForm, request.form.to_dict(flat=False))
    if form.typed.strip() != path.name:
        return _render_collection(path, CollectionView(), typed=form.typed), 422
    job = drop_collection(web_clients(), path.name)
    return redirect(url_for("collections.collections_page", deleting=path.name if job else None), 303)


@blueprint.post("/collections/<name>/rename", access=of_path("change"))
def rename_collection(name: str) -> ResponseReturnValue:
    """Give a collection another name; works without scripts."""
    path = checked(CollectionPath, {"name": name}, "collection")
    form = read_fields(RenameForm, request.form.to_dict(flat=False))
    wanted = form.new.strip()
    try:
        job = renaming.rename_collection(web_clients(), path.name, collection_name(wanted))
    except (Invalid, Problem) as error:
        web_clients().catalog.get(path.name)
        refusal = Refused(wanted, translated(said(error)))
        status = 422 if isinstance(error, Invalid) else error.status
        return _render_collection(path, CollectionView(), refused=refusal), status
    if job is not None:
        return redirect(url_for("jobs.job_page", id=job), 303)
    return redirect(url_for("collections.collection_page", name=wanted), 303)


@blueprint.post("/collections/<name>/regions", access=of_path("change"))
def switch_regions(name: str) -> ResponseReturnValue:
    """Have regions of a collection's images indexed, or no longer; works without scripts."""
    path = checked(CollectionPath, {"name": name}, "collection")
    form = read_fields(RegionsForm, request.form.to_dict(flat=False))
    job = regions.switch_regions(web_clients(), path.name, on=form.regions)
    return redirect(url_for("jobs.job_page", id=job), 303)


def _render_collection(
    path: CollectionPath, view: CollectionView, *, typed: str | None = None, refused: Refused | None = None
) -> str:
    """Return the page of a collection; `typed` is what was wrongly typed for its name, `refused` a name for it."""
    try:
        collection = web_clients().query.collection(path.name)
    except NotFound:
        if not may("change", path.name) or new_name(path.name) is not None:
            raise
        return render_template("collection.html", collection=None, **_of_uploads(path.name))
    wanted = view.wanted
    facets = facets_of(
        web_clients().query,
        path.name,
        wanted,
        wanted,
        lambda text: page_address(path.name, view, filter=text, label="", page=0) + "#gallery",
    )
    listing = web_clients().query.images(
        path.name,
        limit=_PAGE_SIZE,
        offset=(view.page - 1) * _PAGE_SIZE,
        filter=facets.filter,
        text=view.text,
        sort=view.sort,
        fields=view.fields,
    )
    inspects = may("inspect", path.name)  # others learn nothing of its jobs and index
    verification = web_clients().state.verifications.get() if inspects else None
    return render_template(
        "collection.html",
        **_of_uploads(path.name),
        collection=collection,
        regions=regions_answer(collection, web_clients().settings),
        inspects=inspects,
        index=web_clients().catalog.current_report(path.name) if inspects else None,
        damage=[] if verification is None else verification.of(path.name),
        classes=sorted(collection.classes.items(), key=lambda item: (-item[1], item[0])),
        images=listing.images,
        facets=facets,
        later=page_address(path.name, view, page=view.page - 1),
        earlier=page_address(path.name, view, page=view.page + 1),
        total=listing.total,
        view=view,
        pages=max(1, -(-listing.total // _PAGE_SIZE)),
        typed=typed,
        refused=refused,
    )


def _of_uploads(name: str) -> dict[str, object]:
    """Return what the page of a collection needs to take images, whether there is a collection yet or not."""
    settings = web_clients().settings
    return {
        "name": name,
        "limits": {
            "max_file_bytes": min(settings.max_file_bytes, settings.max_upload_bytes),
            "max_upload_bytes": settings.max_upload_bytes,
        },
        "passed_over": passed_over_rules(),
        "trash_days": settings.trash_days,
    }
