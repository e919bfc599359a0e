"""Images that somebody ticked: the page that shows them to whoever has its address, and the files of them."""

from collections.abc import Mapping
from typing import Annotated, Final

from flask import render_template, request
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator, Field

from services.web.access import GuardedBlueprint, of_path
from services.web.api.inputs import CollectionPath, ImageId, Input, checked
from services.web.api.record_inputs import ExportFormat
from services.web.api.selections import archived, exported
from services.web.clients import web_clients
from services.web.pages.fields import read_fields
from shared.access.links import MOST_IMAGES
from shared.records.editing import named_images
from shared.rpc.query.options import MAX_EXAMPLES

MOST_TICKED: Final = 2_000
MOST_IN_ADDRESS: Final = 400  # of 17 characters each: servers take a first line of 8,190 bytes
_LIMITS: Final = {
    "ticked": MOST_TICKED,
    "address": MOST_IN_ADDRESS,
    "link": MOST_IMAGES,
    "examples": MAX_EXAMPLES,
}

blueprint = GuardedBlueprint("selection", __name__)


@blueprint.app_template_global()
def selection_limits() -> Mapping[str, int]:
    """Return how many images one may tick, have in an address, share by a link, and take as examples."""
    return _LIMITS


def _apart(values: object) -> object:
    """Return the ids that texts like ``7,12`` have."""
    return [part for text in values for part in str(text).split(",")] if isinstance(values, list) else values


class SelectionView(Input):
    """Which images are shown."""

    ids: Annotated[list[ImageId], Field(max_length=MOST_IN_ADDRESS, default_factory=list), BeforeValidator(_apart)]


class SelectionForm(Input):
    """Which images are wanted."""

    id: Annotated[list[ImageId], Field(min_length=1, max_length=MOST_TICKED)]


class ExportForm(SelectionForm):
    """Which images are wanted, as which file."""

    format: ExportFormat = "csv"


@blueprint.get("/collections/<name>/selection", access=of_path("look"))
def selection_page(name: str) -> ResponseReturnValue:
    """Show the images that the address names, in its order."""
    path = checked(CollectionPath, {"name": name}, "collection")
    ids = list(dict.fromkeys(read_fields(SelectionView, request.args.to_dict(flat=False)).ids))
    query = web_clients().query
    query.collection(path.name)
    images = list(named_images(query, path.name, ids))
    return render_template("selection.html", name=path.name, images=images, gone=len(ids) - len(images))


@blueprint.post("/collections/<name>/selection/export", access=of_path("look"))
def export_selection(name: str) -> ResponseReturnValue:
    """Return a file with what is known of the images that are ticked."""
    path = checked(CollectionPath, {"name": name}, "collection")
    form = read_fields(ExportForm, request.form.to_dict(flat=False))
    return exported(path.name, form.id, form.format)


@blueprint.post("/collections/<name>/selection/originals", access=of_path("originals"))
def originals_of_selection(name: str) -> ResponseReturnValue:
    """Return the originals of the images that are ticked, as a ZIP file."""
    path = checked(CollectionPath, {"name": name}, "collection")
    return archived(path.name, read_fields(SelectionForm, request.form.to_dict(flat=False)).id)
