"""Logging in with an OpenID provider: to it, and back."""

import secrets
from typing import Final

from flask import Response, redirect, request, url_for
from flask.typing import ResponseReturnValue

from services.web.access import OPEN, GuardedBlueprint, auditing
from services.web.access.browser_sessions import browser_sessions
from services.web.access.log_in_address import NextPage, page_after
from services.web.access.openid_provider import LogInRefused
from services.web.access.setting_up import access_store, openid_provider
from services.web.api.inputs import Input
from services.web.clients import web_clients
from services.web.languages import marked, said
from services.web.pages.fields import read_fields
from services.web.problems import Problem
from services.web.public_address import cookies_are_secure
from shared.errors import Invalid
from shared.state.pending_log_ins import KEPT_S, PendingLogIn

_COOKIE: Final = "artseek_log_in"
blueprint = GuardedBlueprint("single_sign_on", __name__)


class LogInStart(Input):
    """The page to go on to."""

    next: NextPage = "/"


@blueprint.get("/log-in/openid", access=OPEN)
def go() -> ResponseReturnValue:
    """Send the browser to the provider. A cookie ties the log-in to this browser."""
    provider = openid_provider()
    start = read_fields(LogInStart, request.args.to_dict(flat=False))
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    address = provider.address(return_to=_return_address(), state=state, nonce=nonce, verifier=verifier)
    web_clients().state.pending_log_ins.keep(state, PendingLogIn(verifier, nonce, start.next))
    response = redirect(address, 303)
    signed = browser_sessions().signing.sign(state, salt=_COOKIE)
    response.set_cookie(
        _COOKIE,
        signed,
        max_age=KEPT_S,
        path=url_for("single_sign_on.go"),
        secure=cookies_are_secure(),
        httponly=True,
        samesite="Lax",
    )
    return response


@blueprint.get("/log-in/openid/return", access=OPEN)
def come_back() -> ResponseReturnValue:
    """Log in whom the provider has let in, and go to the page that was asked for."""
    provider = openid_provider()
    cookie = browser_sessions().signing.read(request.cookies.get(_COOKIE, ""), salt=_COOKIE)
    state = request.args.get("state", "")
    pending = web_clients().state.pending_log_ins.take(state) if cookie and cookie == state else None
    if pending is None:
        raise Problem(
            400, "log-in-ended", marked("this log-in has ended, or was begun in another browser: log in again")
        )
    try:
        identity = provider.identity(
            answer=request.url,
            return_to=_return_address(),
            state=state,
            nonce=pending.nonce,
            verifier=pending.verifier,
        )
        account = access_store().let_in(identity)
    except (LogInRefused, Invalid) as error:
        auditing.begin("anonymous", what="log_in", detail=str(error))
        raise Problem(403, "log-in-refused", said(error)) from None
    auditing.begin(f"account {account.name}", what="log_in", detail=identity.told_by)
    browser_sessions().begin(account)
    response: Response = redirect(page_after(pending.next), 303)  # type: ignore[assignment]
    response.delete_cookie(_COOKIE, path=url_for("single_sign_on.go"))
    return response


def _return_address() -> str:
    return url_for("single_sign_on.come_back", _external=True)
