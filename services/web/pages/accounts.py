"""The page of somebody's account, for those who administer: roles, password, shutting out, removing."""

from collections.abc import Callable
from typing import Annotated, Literal

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web.access import GuardedBlueprint, of_system, requester
from services.web.access import accounts as changing
from services.web.access.setting_up import access_store
from services.web.api.inputs import CollectionName, Input
from services.web.clients import web_clients
from services.web.languages import said
from services.web.pages.access import render_access
from services.web.pages.fields import read_fields
from services.web.problems import Problem
from shared.access import ROLES, Account, Grant, Role
from shared.access.passwords import LEAST, MOST
from shared.errors import Invalid

blueprint = GuardedBlueprint("accounts", __name__)
_ADMIN = of_system("administer")


class RoleForm(Input):
    """A role to be given or taken away, in a collection or in all."""

    role: Role = "viewer"
    collection: CollectionName | Literal[""] = ""

    @property
    def grant(self) -> Grant:
        """The role."""
        return Grant(self.role, self.collection or None)


class AddForm(RoleForm):
    """An account to be added."""

    name: Annotated[str, Field(max_length=128)] = ""
    password: Annotated[str, Field(max_length=MOST)] = ""


class PasswordForm(Input):
    """Another password."""

    password: Annotated[str, Field(max_length=MOST)] = ""


class DisabledForm(Input):
    """Whether the account is to be shut out."""

    disabled: Literal["yes", "no"] = "yes"


class RemovalForm(Input):
    """What was typed to confirm that the account is to be removed."""

    typed: Annotated[str, Field(max_length=128)] = ""


@blueprint.post("/access/users", access=_ADMIN)
def add_account() -> ResponseReturnValue:
    """Add an account."""
    form = read_fields(AddForm, request.form.to_dict(flat=False))
    try:
        account = changing.add_account(form.name, (form.grant,), form.password)
    except (Invalid, Problem) as error:
        return render_access(form, problem=said(error)), error.status if isinstance(error, Problem) else 422
    return redirect(url_for("accounts.account_of", user=account.name), 303)


@blueprint.get("/access/users/<user>", access=_ADMIN)
def account_of(user: str) -> ResponseReturnValue:
    """Show what somebody's account may do."""
    return _page(access_store().account(user))


@blueprint.post("/access/users/<user>/roles", access=_ADMIN)
def give_role(user: str) -> ResponseReturnValue:
    """Give somebody a role, in place of the one that they have in the same collection."""
    grant = read_fields(RoleForm, request.form.to_dict(flat=False)).grant
    return _changed(user, lambda account: (*_elsewhere(account, grant), grant))


@blueprint.post("/access/users/<user>/roles/take", access=_ADMIN)
def take_role(user: str) -> ResponseReturnValue:
    """Take a role away."""
    grant = read_fields(RoleForm, request.form.to_dict(flat=False)).grant
    return _changed(user, lambda account: _elsewhere(account, grant))


@blueprint.post("/access/users/<user>/password", access=_ADMIN)
def give_password(user: str) -> ResponseReturnValue:
    """Give somebody another password."""
    form = read_fields(PasswordForm, request.form.to_dict(flat=False))
    try:
        changing.set_password(user, form.password)
    except Invalid as error:
        return _page(access_store().account(user), problem=said(error)), 422
    return _back(user)


@blueprint.post("/access/users/<user>/disabled", access=_ADMIN)
def disable_account(user: str) -> ResponseReturnValue:
    """Shut somebody out, or let them in again."""
    form = read_fields(DisabledForm, request.form.to_dict(flat=False))
    changing.set_disabled(user, disabled=form.disabled == "yes")
    return _back(user)


@blueprint.post("/access/users/<user>/remove", access=_ADMIN)
def remove_account(user: str) -> ResponseReturnValue:
    """Remove an account if its name was typed; works without scripts."""
    account = access_store().account(user)
    form = read_fields(RemovalForm, request.form.to_dict(flat=False))
    if form.typed.strip() != account.name:
        return _page(account, typed=form.typed), 422
    changing.remove_account(account.name)
    return redirect(url_for("access.access_page"), 303)


def _elsewhere(account: Account, grant: Grant) -> tuple[Grant, ...]:
    """Return the roles of an account that are for other collections than that of a role."""
    return tuple(held for held in account.grants if held.collection != grant.collection)


def _changed(user: str, change: Callable[[Account], tuple[Grant, ...]]) -> ResponseReturnValue:
    changing.set_grants(user, change(access_store().account(user)))
    return _back(user)


def _back(user: str) -> ResponseReturnValue:
    return redirect(url_for("accounts.account_of", user=user), 303)


def _page(account: Account, *, problem: str = "", typed: str | None = None) -> str:
    """Return the page of an account; `problem` is one of the password, `typed` what was wrongly typed for the name."""
    return render_template(
        "account_of.html",
        account=account,
        is_own=account.name == requester().account,
        roles=ROLES,
        least=LEAST,
        problem=problem,
        typed=typed,
        told_by_groups=bool(account.subject and web_clients().settings.group_roles),
    )
