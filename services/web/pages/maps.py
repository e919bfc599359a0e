"""The page of a collection's map: having it made, and moving about on it."""

from flask import redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from services.web.access import GuardedBlueprint, of_path
from services.web.access.gate import may
from services.web.api.inputs import CollectionPath, checked
from services.web.api.maps import start_map
from services.web.clients import web_clients
from shared.maps.maps import Maps
from shared.records.model import LABEL
from shared.schemas.jobs import job_summary

blueprint = GuardedBlueprint("maps", __name__)


@blueprint.get("/collections/<name>/map", access=of_path("look"))
def map_page(name: str) -> ResponseReturnValue:
    """Show the map of a collection, or that there is none yet, and whether one is being made.

    How far that is, those with a role in the collection see; the others, that the map comes.
    """
    path = checked(CollectionPath, {"name": name}, "collection")
    clients = web_clients()
    active = clients.catalog.get(path.name)
    jobs, _ = clients.state.jobs.page(collection=path.name, kind="map", states=["open", "running"], offset=0, limit=1)
    has_map = Maps(clients.store).exists(active.name)
    facets = clients.query.facets(path.name, limit=1).facets if has_map else ()
    fields = [facet.field for facet in facets if facet.values]
    return render_template(
        "map.html",
        name=path.name,
        has_map=has_map,
        fields=sorted(fields, key=lambda field: field != LABEL),
        under_way=job_summary(jobs[0]) if jobs and may("inspect", path.name) else None,
        awaited=bool(jobs) and not has_map,
    )


@blueprint.post("/collections/<name>/map", access=of_path("change"))
def make_map(name: str) -> ResponseReturnValue:
    """Have the map made, or brought up to the images, and show how far that is; works without scripts."""
    path = checked(CollectionPath, {"name": name}, "collection")
    start_map(web_clients(), path.name)
    return redirect(url_for("maps.map_page", name=path.name), 303)
