"""The page of a collection's duplicates: groups side by side, judging, merging."""

from typing import Annotated

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web.access import GuardedBlueprint, of_path
from services.web.api.duplicates import start_search
from services.web.api.inputs import READ_FLOAT, CollectionPath, Input, Page, checked
from services.web.clients import web_clients
from services.web.pages.fields import read_fields
from shared.duplicates.listing import LEAST, groups_page, latest_report
from shared.duplicates.store import Duplicates
from shared.proof.measured import FALSE_ALARMS
from shared.schemas.jobs import job_summary

_PAGE_SIZE = 12  # groups of one page

blueprint = GuardedBlueprint("duplicates", __name__)


class DuplicatesView(Input):
    """Which groups are shown."""

    threshold: Annotated[float, Field(ge=-1, le=1), READ_FLOAT] = LEAST
    page: Page = 1


@blueprint.get("/collections/<name>/duplicates", access=of_path("inspect"))
def duplicates_page(name: str) -> ResponseReturnValue:
    """Show the groups that the last search for duplicates found, and whether another is under way."""
    path = checked(CollectionPath, {"name": name}, "collection")
    view = read_fields(DuplicatesView, request.args.to_dict(flat=False))
    clients = web_clients()
    clients.catalog.get(path.name)
    duplicates = Duplicates(clients.store)
    jobs, _ = clients.state.jobs.page(
        collection=path.name, kind="duplicates", states=["open", "running"], offset=0, limit=1
    )
    found = None
    if duplicates.ids(path.name):
        found = groups_page(
            duplicates,
            clients.query,
            path.name,
            latest_report(duplicates, path.name),
            threshold=view.threshold,
            limit=_PAGE_SIZE,
            offset=(view.page - 1) * _PAGE_SIZE,
        )
    return render_template(
        "duplicates.html",
        name=path.name,
        view=view,
        least=LEAST,
        found=found,
        pages=1 if found is None else max(1, -(-found["total"] // _PAGE_SIZE)),
        under_way=job_summary(jobs[0]) if jobs else None,
        measured=FALSE_ALARMS,
    )


@blueprint.post("/collections/<name>/duplicates", access=of_path("change"))
def look_for_duplicates(name: str) -> ResponseReturnValue:
    """Search a collection for duplicates, and show how far that is; works without scripts."""
    path = checked(CollectionPath, {"name": name}, "collection")
    start_search(web_clients(), path.name)
    return redirect(url_for("duplicates.duplicates_page", name=path.name), 303)
