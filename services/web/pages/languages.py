"""Choosing the language of the pages."""

from typing import Annotated

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import AfterValidator, Field

from services.web.access import OPEN, GuardedBlueprint
from services.web.access.log_in_address import fitting, page_after
from services.web.api.inputs import Input
from services.web.languages.catalogues import offered
from services.web.languages.choice import COOKIE, KEPT_S
from services.web.pages.fields import read_fields
from services.web.problems import FieldError, invalid
from services.web.public_address import cookies_are_secure

blueprint = GuardedBlueprint("languages", __name__)


class LanguageForm(Input):
    """A language, and the page to go back to."""

    language: Annotated[str, Field(max_length=40)] = "en"
    next: Annotated[str, AfterValidator(lambda wanted: fitting(wanted, most=8_000))] = "/"


@blueprint.post("/language", access=OPEN)
def choose() -> ResponseReturnValue:
    """Keep the language that was chosen in a cookie, and go back; works without scripts."""
    form = read_fields(LanguageForm, request.form.to_dict(flat=False))
    if form.language.lower() not in offered():
        names = ", ".join(offered())
        raise invalid([FieldError(field="form.language", message=f"is none of the languages of the pages: {names}")])
    response = redirect(page_after(_page_shown(form.next)), 303)
    response.set_cookie(
        COOKIE,
        form.language.lower(),
        max_age=KEPT_S,
        path=url_for("search.search_page"),
        secure=cookies_are_secure(),
        httponly=True,
        samesite="Lax",
    )
    return response


def _page_shown(wanted: str) -> str:
    """Return the address of the page as the browser has it: a script may have changed what follows its path."""
    host, _, shown = (request.referrer or "").partition("://")[2].partition("/")
    address = f"/{shown}".removeprefix(request.script_root)
    is_same = host == request.host and address.partition("?")[0] == wanted.partition("?")[0]
    return address if is_same else wanted
