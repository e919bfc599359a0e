"""The audit log: its latest entries on a page, and each day as a file of JSON lines."""

from typing import Annotated, Final, Literal

from flask import Response, render_template, request
from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web.access import GuardedBlueprint, of_system
from services.web.api.inputs import CollectionName, Input
from services.web.clients import web_clients
from services.web.languages import told
from services.web.pages.fields import read_fields
from shared.access.audit import AuditLog, is_day, json_lines
from shared.errors import NotFound

_MOST: Final = 200  # entries of the page

blueprint = GuardedBlueprint("audit", __name__)


class AuditView(Input):
    """Which entries are shown."""

    collection: CollectionName | Literal[""] = ""
    who: Annotated[str, Field(max_length=200)] = ""


@blueprint.get("/audit", access=of_system("administer"))
def audit_page() -> ResponseReturnValue:
    """Show the latest entries of the audit log."""
    view = read_fields(AuditView, request.args.to_dict(flat=False))
    clients = web_clients()
    log = AuditLog(clients.store)
    return render_template(
        "audit.html",
        entries=[entry.to_answer() for entry in log.latest(most=_MOST, collection=view.collection, who=view.who)],
        days=log.days(),
        kept=clients.settings.audit_days,
        most=_MOST,
        view=view,
    )


@blueprint.get("/audit/<day>.jsonl", access=of_system("administer"))
def audit_day(day: str) -> ResponseReturnValue:
    """Return the entries of a day as JSON lines, the earliest first."""
    log = AuditLog(web_clients().store)
    if not is_day(day) or day not in log.days():
        raise NotFound(told("the audit log has no day %(day)s", day=repr(day[:80])))
    response = Response(json_lines(reversed(log.of_day(day))), content_type="application/x-ndjson")
    response.headers["Content-Disposition"] = f'attachment; filename="audit-{day}.jsonl"'
    return response
