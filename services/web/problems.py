"""Turns errors into HTTP responses: problem details (RFC 9457) for the API, a page for browsers.

Every error that a view raises is handled here: all responses have the same form, and none shows a stack trace.
"""

import json
import logging
from http import HTTPStatus
from typing import NotRequired

from flask import Flask, Response, render_template, request
from typing_extensions import TypedDict
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from shared.errors import IndexLost, Invalid, NotFound, StoreUnavailable, Unavailable
from shared.images import ImageRefused
from shared.rpc.query import QueryRefused
from shared.schemas.jobs import Refusal

MEDIA_TYPE = "application/problem+json"
_RETRY_S = 5
_log = logging.getLogger(__name__)


class FieldError(TypedDict):
    """One value that does not fit: where it stands, and what is expected there."""

    field: str
    message: str


class ProblemAnswer(TypedDict):
    """What went wrong (RFC 9457): `code` is for programs, `detail` says what was found and what helps."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: NotRequired[list[FieldError]]
    rejected: NotRequired[list[Refusal]]


class Problem(Exception):
    """Ends a request with an error response."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: list[FieldError] | None = None,
        rejected: list[Refusal] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.errors, self.rejected, self.headers = errors, rejected, headers or {}


def invalid(errors: list[FieldError]) -> Problem:
    """Return the problem of a request with invalid values."""
    detail = "; ".join(f"{error['field']}: {error['message']}" for error in errors[:5])
    return Problem(422, "invalid", detail, errors=errors)


def too_large(limit: int) -> Problem:
    """Return the problem of a body or file of more than `limit` bytes."""
    return Problem(
        413, "too-large", f"the request is larger than the {limit:,} bytes that are taken: send less at a time"
    )


def attach(app: Flask) -> None:
    """Handle every error of the application."""
    app.register_error_handler(Problem, _response)
    app.register_error_handler(HTTPException, lambda error: _response(_from_http(error)))
    app.register_error_handler(Exception, lambda error: _response(_from_exception(error)))


def _from_http(error: HTTPException) -> Problem:
    if isinstance(error, RequestEntityTooLarge):
        return too_large(request.max_content_length or 0)
    status = HTTPStatus(error.code or 500)
    headers = {name: value for name, value in error.get_headers() if name in {"Allow", "Location", "Retry-After"}}
    detail = error.description or status.description
    if status == HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.path[:200]!r}"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not possible here, only {headers.get('Allow', 'other methods')}"
    return Problem(status, status.phrase.lower().replace(" ", "-"), detail, headers=headers)


def _from_exception(error: Exception) -> Problem:
    match error:
        case ImageRefused():
            return Problem(422, error.reason, error.message)
        case QueryRefused():
            return Problem(413 if error.code == "too-large" else 422, error.code, str(error))
        case Invalid():
            return Problem(422, "invalid", str(error))
        case NotFound():
            return Problem(404, "not-found", str(error))
        case Unavailable():
            code = "rebuilding" if isinstance(error, IndexLost) else "unavailable"
            if isinstance(error, StoreUnavailable):
                _log.warning("%s %s: %s", request.method, request.path, error)
            return Problem(503, code, str(error), headers={"Retry-After": str(_RETRY_S)})
        case _:
            _log.error("%s %s failed", request.method, request.path, exc_info=error)
            return Problem(500, "error", "this is a fault of Artseek; its log says more")


def wants_problem() -> bool:
    """Return whether errors of this request are sent as JSON: paths for programs, not for people."""
    return request.path.startswith("/api/") or request.path in {"/healthz", "/readyz", "/metrics"}


def _response(problem: Problem) -> Response:
    title = HTTPStatus(problem.status).phrase
    if wants_problem():
        body = ProblemAnswer(
            type="about:blank", title=title, status=problem.status, detail=problem.detail, code=problem.code
        )
        if problem.errors:
            body["errors"] = problem.errors
        if problem.rejected:
            body["rejected"] = problem.rejected
        response = Response(json.dumps(body), problem.status, mimetype=MEDIA_TYPE)
    else:
        template = "_problem.html" if request.path == "/results" else "problem.html"
        detail = problem.detail.encode("utf-8", "replace").decode()
        response = Response(
            render_template(template, status=problem.status, title=title, detail=detail), problem.status
        )
    response.headers.update(problem.headers)
    return response
