"""The pages of one's own account: logging in and out, password, and API keys."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from flask import Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field
from werkzeug.wrappers import Response as WerkzeugResponse

from services.web.access import OPEN, SIGNED_IN, GuardedBlueprint, auditing, requester
from services.web.access.accounts import words_of
from services.web.access.browser_sessions import browser_sessions, has_session
from services.web.access.gate import current_gate
from services.web.access.log_in_address import NextPage, page_after
from services.web.access.setting_up import access_store, openid_provider
from services.web.api.inputs import CollectionName, Input
from services.web.clients import web_clients
from services.web.languages import gettext, marked, said, told
from services.web.pages.fields import read_fields
from services.web.problems import Problem
from shared.access import ROLES, Account, ApiKey, Role, grants_of
from shared.access.accounts import account_name
from shared.access.passwords import LEAST, MOST, fits
from shared.errors import Invalid, NotFound, Unavailable

blueprint = GuardedBlueprint("account", __name__)

Password = Annotated[str, Field(max_length=MOST)]


class LogInForm(Input):
    """Name and password, and where to go then."""

    name: Annotated[str, Field(max_length=128)] = ""
    password: Password = ""
    next: NextPage = "/"


class PasswordForm(Input):
    """The password so far, and the one to be."""

    password: Password = ""
    new: Password = ""


class KeyForm(Input):
    """What a new API key may do, for how long, and what it is for."""

    role: Role = "viewer"
    collection: CollectionName | Literal[""] = ""
    days: Annotated[str, Field(pattern=r"^[0-9]{0,5}$")] = ""
    note: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""


# In and out


@blueprint.get("/log-in", access=OPEN)
def log_in_page() -> ResponseReturnValue:
    """Show where one logs in."""
    form = read_fields(LogInForm, request.args.to_dict(flat=False))
    if requester().is_signed_in:
        return redirect(page_after(form.next), 303)
    return _log_in_page(form.next)


@blueprint.post("/log-in", access=OPEN)
def log_in() -> ResponseReturnValue:
    """Log in, and go to the page that was asked for."""
    form = read_fields(LogInForm, request.form.to_dict(flat=False))
    address = request.remote_addr or ""
    try:
        name = account_name(form.name)
    except Invalid:
        name = ""
    log_ins = web_clients().state.log_ins
    wait = log_ins.begin(name, address)
    if wait:
        raise Problem(
            429,
            "too-many",
            told("too many log-ins have failed: try again in %(minutes)s minutes", minutes=-(-wait // 60)),
            headers={"Retry-After": str(wait)},
        )
    account = current_gate().access.account(name) if name else None
    fitting = fits(form.password, account.password if account else None)
    if current_gate().needs_log_in:
        tried = name if account is not None else ""  # what is no name may be a password in the wrong field
        auditing.begin(f"account {name}" if fitting else "anonymous", what="log_in", detail="" if fitting else tried)
    if not fitting or account is None:
        problem = gettext("There is no account with this name and password.")
        return _log_in_page(form.next, name=form.name, problem=problem), 401
    log_ins.succeeded(name, address)
    browser_sessions().begin(account)
    return redirect(page_after(form.next), 303)


@blueprint.post("/log-out", access=OPEN)
def log_out() -> ResponseReturnValue:
    """Log out, on this browser."""
    browser_sessions().end()
    return _away()


@blueprint.get("/logged-out", access=OPEN)
def logged_out() -> ResponseReturnValue:
    """Show that one has logged out, and where to log out of the OpenID provider too."""
    address = openid_provider().log_out_address(url_for("account.log_in_page", _external=True))
    return _log_in_page("/", log_out_address=address)


def _log_in_page(wanted: str, *, name: str = "", problem: str = "", log_out_address: str | None = None) -> str:
    issuer = web_clients().settings.oidc_issuer
    return render_template(
        "log_in.html",
        next=wanted,
        name=name,
        problem=problem,
        provider=urlsplit(issuer).hostname if issuer else None,
        log_out_address=log_out_address,
    )


def _away() -> WerkzeugResponse:
    page = "account.logged_out" if web_clients().settings.oidc_issuer else "account.log_in_page"
    response = redirect(url_for(page), 303)
    response.headers["Clear-Site-Data"] = '"cache"'  # of what was seen, nothing stays
    return response


# The account


@blueprint.get("/account", access=SIGNED_IN)
def account_page() -> ResponseReturnValue:
    """Show one's account and its API keys."""
    return _page(_own())


@blueprint.post("/account/password", access=SIGNED_IN)
def change_password() -> ResponseReturnValue:
    """Change the password: all sessions end, and this browser gets a new one."""
    account = _own()
    form = read_fields(PasswordForm, request.form.to_dict(flat=False))
    address = request.remote_addr or ""
    wait = web_clients().state.log_ins.begin(account.name, address)
    if wait:
        raise Problem(
            429,
            "too-many",
            marked("too many passwords were wrong: try again later"),
            headers={"Retry-After": str(wait)},
        )
    if not fits(form.password, account.password):
        return _page(account, problem_with_it=gettext("That is not your password.")), 422
    try:
        changed = access_store().set_password(account.name, form.new)
    except Invalid as error:
        return _page(account, problem_with_it=said(error)), 422
    web_clients().state.log_ins.succeeded(account.name, address)
    browser_sessions().begin(changed)
    return redirect(url_for("account.account_page"), 303)


@blueprint.post("/account/sign-out-everywhere", access=SIGNED_IN)
def sign_out_everywhere() -> ResponseReturnValue:
    """End all sessions of the account."""
    access_store().end_sessions(_own().name)
    browser_sessions().end()
    return _away()


@blueprint.post("/account/keys", access=SIGNED_IN)
def create_key() -> ResponseReturnValue:
    """Make an API key, and show it this once."""
    account = _own()
    form = read_fields(KeyForm, request.form.to_dict(flat=False))
    grants = grants_of(form.role, (form.collection,) if form.collection else ())
    days = float(form.days) if form.days else None
    if days == 0:
        days = None
    auditing.note_detail(words_of(grants), f"for {days:g} days" if days else "for ever")
    key, token = access_store().create_key(grants, account=account.name, days=days, note=form.note, by=account.name)
    response = Response(_page(account, made=key, token=token), 201)
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.post("/account/keys/<key>/revoke", access=SIGNED_IN)
def revoke_key(key: str) -> ResponseReturnValue:
    """End one of one's own API keys."""
    account = _own()
    found = current_gate().access.state().keys.get(key)
    if found is None or found.account != account.name:
        raise NotFound(told("you have no API key %(key)s", key=repr(key[:80])))
    access_store().revoke_key(key)
    return redirect(url_for("account.account_page") + "#keys", 303)


def _own() -> Account:
    """Return the account that is logged in.

    Raises:
        Problem: Nobody is: a key asks, or no log-in is needed.
    """
    asking = requester()
    account = current_gate().access.account(asking.name) if asking.kind == "account" else None
    if account is None:
        if asking.kind == "key":
            detail = marked("this is for those who have logged in with an account; an API key is not enough")
        else:
            detail = marked("this is for those who have logged in with an account; nobody has to, on this system")
        raise Problem(403, "forbidden", detail)
    return account


def _page(account: Account, *, problem_with_it: str = "", made: ApiKey | None = None, token: str = "") -> str:
    known = current_gate().access.state().keys.values()
    keys = [key for key in known if key.account == account.name]
    return render_template(
        "account.html",
        account=account,
        has_session=has_session(),
        keys=sorted(keys, key=lambda key: -key.created),
        uses=key_uses(),
        roles=ROLES,
        least=LEAST,
        problem_with_it=problem_with_it,
        made=made,
        token=token,
    )


def key_uses() -> dict[str, float]:
    """Return when each key was last used; nothing if Redis, which knows, is away."""
    try:
        return web_clients().state.access_marks.uses()
    except Unavailable:
        return {}
