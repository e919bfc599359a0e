"""Pages of other sites that `ARTSEEK_CORS_ORIGINS` names: they may look at and search what is public, as anybody may.

A browser sends them without cookies and keys, and whatever comes along does not count: to such a page, everybody is
anonymous.
"""

from typing import Final

from flask import Flask, Response, current_app, request

from shared.schemas.urls import API
from shared.settings import Settings

_NAME: Final = "artseek-cors"
_METHODS: Final = "GET, POST"
_REMEMBERED_S: Final = "600"


def attach(app: Flask, settings: Settings) -> None:
    """Answer the questions of browsers about named sites, and let these read; call it before other checks."""
    app.extensions[_NAME] = frozenset(origin for origin in settings.cors_origins.split(",") if origin)
    app.before_request(_answer_preflight)
    app.after_request(_let_read)


def is_from_named_site() -> bool:
    """Return whether a page of a named site sent this request, to the API."""
    named: frozenset[str] = current_app.extensions.get(_NAME, frozenset())
    return (
        request.headers.get("Origin") in named
        and request.headers.get("Sec-Fetch-Site") not in {"same-origin", "none"}
        and request.path.startswith(f"{API}/")
    )


def _answer_preflight() -> Response | None:
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if not asks or not is_from_named_site():
        return None
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = _METHODS
    response.headers["Access-Control-Allow-Headers"] = "Content-Type"
    response.headers["Access-Control-Max-Age"] = _REMEMBERED_S
    return response


def _let_read(response: Response) -> Response:
    if current_app.extensions.get(_NAME):
        response.vary.add("Origin")
        if is_from_named_site():
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = "ETag, Retry-After"
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
