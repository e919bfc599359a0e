"""The pages of those who administer: all accounts and keys, and whom a collection is open to."""

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel

from services.web.access import GuardedBlueprint, auditing, of_path, of_system
from services.web.access.gate import current_gate
from services.web.access.setting_up import access_store
from services.web.api.inputs import CollectionPath, Input, checked
from services.web.clients import web_clients
from services.web.pages.account import key_uses
from services.web.pages.fields import read_fields
from shared.access import ROLES, CollectionAccess, Visibility
from shared.access.accounts import PRIVATE, VISIBILITIES, VISIBILITY_TITLES
from shared.access.passwords import LEAST

blueprint = GuardedBlueprint("access", __name__)


class CollectionAccessForm(Input):
    """Whom a collection is to be open to."""

    visibility: Visibility
    originals: Visibility


class CollectionAccessView(Input):
    """Whether what was sent is kept."""

    saved: str = ""


@blueprint.get("/access", access=of_system("administer"))
def access_page() -> ResponseReturnValue:
    """Show all accounts and API keys."""
    return render_access()


def render_access(form: BaseModel | None = None, *, problem: str = "") -> str:
    """Return the page of all accounts and keys; `problem` says what is wrong with the account to be added."""
    state = current_gate().access.state()
    return render_template(
        "access.html",
        accounts=sorted(state.accounts.values(), key=lambda account: account.name),
        keys=sorted(state.keys.values(), key=lambda key: -key.created),
        uses=key_uses(),
        roles=ROLES,
        least=LEAST,
        form=form,
        problem=problem,
    )


@blueprint.post("/access/keys/<key>/revoke", access=of_system("administer"))
def revoke_any_key(key: str) -> ResponseReturnValue:
    """End an API key."""
    access_store().revoke_key(key)
    return redirect(url_for("access.access_page") + "#keys", 303)


@blueprint.get("/collections/<name>/access", access=of_path("administer"))
def collection_access_page(name: str) -> ResponseReturnValue:
    """Show whom a collection is open to."""
    path = checked(CollectionPath, {"name": name}, "collection")
    web_clients().query.collection(path.name)
    state = current_gate().access.state()
    return render_template(
        "collection_access.html",
        name=path.name,
        access=state.collections.get(path.name, PRIVATE),
        roles={
            account.name: grants  # of this collection alone: who administers one need not know of others
            for account in sorted(state.accounts.values(), key=lambda account: account.name)
            if (grants := [grant for grant in account.grants if grant.collection in {None, path.name}])
        },
        visibilities=VISIBILITIES,
        titles=VISIBILITY_TITLES,
        saved=read_fields(CollectionAccessView, request.args.to_dict(flat=False)).saved,
    )


@blueprint.post("/collections/<name>/access", access=of_path("administer"))
def set_collection_access(name: str) -> ResponseReturnValue:
    """Say whom a collection is open to."""
    path = checked(CollectionPath, {"name": name}, "collection")
    web_clients().query.collection(path.name)
    form = read_fields(CollectionAccessForm, request.form.to_dict(flat=False))
    auditing.note_detail(f"{form.visibility}, originals {form.originals}")
    access_store().set_collection(path.name, CollectionAccess(form.visibility, form.originals))
    return redirect(url_for("access.collection_access_page", name=path.name, saved="yes"), 303)
