"""Where people log in, and where they go on to."""

from flask import request, url_for


def log_in_address() -> str:
    """Return where to log in, to go on to the page that this request asks for."""
    wanted = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return url_for("account.log_in_page", next=wanted if wanted != "/" else None)


def page_after(wanted: str) -> str:
    """Return where to go after a log-in: a page of ours that was asked for before, else the first one."""
    is_ours = wanted.startswith("/") and not wanted.startswith("//") and wanted.isprintable() and "\\" not in wanted
    return request.script_root + (wanted if is_ours else "/")
