"""The page of a collection's trash: look at what was deleted, restore it, or remove it for good."""

from flask import render_template, request
from flask.typing import ResponseReturnValue

from services.web.access import GuardedBlueprint, of_path
from services.web.api.inputs import CollectionPath, Input, Page, checked
from services.web.clients import web_clients
from services.web.pages.fields import read_fields
from shared.index.restoring import trash_page

_PAGE_SIZE = 48  # images of one page

blueprint = GuardedBlueprint("trash", __name__)


class TrashView(Input):
    """Which page of a trash is shown."""

    page: Page = 1


@blueprint.get("/collections/<name>/trash", access=of_path("change"))
def show_trash(name: str) -> ResponseReturnValue:
    """Show the trash of a collection."""
    path = checked(CollectionPath, {"name": name}, "collection")
    view = read_fields(TrashView, request.args.to_dict(flat=False))
    clients = web_clients()
    found = trash_page(clients, path.name, limit=_PAGE_SIZE, offset=(view.page - 1) * _PAGE_SIZE)
    return render_template(
        "trash.html",
        name=path.name,
        entries=found.entries,
        total=found.total,
        days=clients.settings.trash_days,
        view=view,
        pages=max(1, -(-found.total // _PAGE_SIZE)),
    )
