"""Where people log in, and where they go on to."""

from typing import Annotated, Final

from flask import request, url_for
from pydantic import AfterValidator

_LONGEST: Final = 2_000  # of an address that is kept through a log-in; as the value of a field it is up to thrice that


def fitting(wanted: str, *, most: int = _LONGEST) -> str:
    """Return an address that is short enough to be gone on to: a long one without its query, or the first page."""
    return next((page for page in (wanted, wanted.partition("?")[0]) if len(page) <= most), "/")


NextPage = Annotated[str, AfterValidator(fitting)]
"""The page to go on to, in a form or an address."""


def log_in_address() -> str:
    """Return where to log in, to go on to the page that this request asks for."""
    wanted = fitting(request.full_path.rstrip("?")) if request.method == "GET" else "/"
    return url_for("account.log_in_page", next=wanted if wanted != "/" else None)


def page_after(wanted: str) -> str:
    """Return where to go after a log-in: a page of ours that was asked for before, else the first one."""
    is_ours = wanted.startswith("/") and not wanted.startswith("//") and wanted.isprintable() and "\\" not in wanted
    return request.script_root + (wanted if is_ours else "/")
