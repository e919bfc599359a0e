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

from services.web.http.request import REFUSAL, Overloaded, TooLarge
from services.web.languages import is_translated, marked, said, told, translated
from shared.errors import IndexLost, Invalid, NotFound, StoreUnavailable, Unavailable
from shared.fetching.fetcher import FetchRefused
from shared.images import ImageRefused
from shared.rpc.query import QueryRefused
from shared.schemas.refusals import Refusal
from shared.waits import WaitLog

MEDIA_TYPE = "application/problem+json"
_RETRY_S = 5
_log = logging.getLogger(__name__)
_wait_log = WaitLog(_log, "the web service")


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
        413,
        "too-large",
        told("the request is larger than the %(most)s bytes that are taken: send less at a time", most=limit),
    )


def attach(app: Flask) -> None:
    """Handle every error of the application."""
    app.register_error_handler(Problem, problem_response)
    app.register_error_handler(HTTPException, lambda error: problem_response(_from_http(error)))
    app.register_error_handler(Exception, lambda error: problem_response(problem_of(error)))
    app.before_request(_refuse)
    app.after_request(_note_success)


def _refuse() -> None:
    """Answer a request that the HTTP server refused at its header."""
    refusal: Exception | None = request.environ.get(REFUSAL)
    match refusal:
        case None:
            return
        case TooLarge():
            raise too_large(refusal.most)
        case Overloaded():
            raise Problem(429, "too-many-requests", str(refusal), headers={"Retry-After": str(_RETRY_S)})
        case _:
            raise refusal


def _note_success(response: Response) -> Response:
    if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        _wait_log.goes_on()
    return response


def _from_http(error: HTTPException) -> Problem:
    if isinstance(error, RequestEntityTooLarge):
        return too_large(request.max_content_length or 0)
    status = HTTPStatus(error.code or 500)
    headers = {name: value for name, value in error.get_headers() if name in {"Allow", "Location", "Retry-After"}}
    detail = error.description or status.description
    if status == HTTPStatus.NOT_FOUND:
        detail = told("there is nothing at %(path)s", path=repr(request.path[:200]))
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = told(
            "%(method)s is not possible here, only %(methods)s",
            method=request.method,
            methods=headers.get("Allow", "other methods"),
        )
    return Problem(status, status.phrase.lower().replace(" ", "-"), detail, headers=headers)


def problem_of(error: Exception) -> Problem:
    """Return the problem that an error of ours is, or any other."""
    match error:
        case ImageRefused():
            return Problem(422, error.reason, error.message)
        case QueryRefused() | FetchRefused():
            return Problem(413 if error.code == "too-large" else 422, error.code, said(error))
        case Invalid():
            return Problem(422, "invalid", said(error))
        case NotFound():
            return Problem(404, "not-found", said(error))
        case Unavailable():
            code = "rebuilding" if isinstance(error, IndexLost) else "unavailable"
            if isinstance(error, StoreUnavailable):
                _wait_log.waits(error)
            return Problem(503, code, said(error), headers={"Retry-After": str(_RETRY_S)})
        case _:
            _log.error("%s %s failed", request.method, request.path, exc_info=error)
            return Problem(500, "error", marked("this is a fault of Artseek; its log says more"))


def wants_problem() -> bool:
    """Return whether errors of this request are sent as JSON: paths for programs, not for people."""
    return request.path.startswith("/api/") or request.path in {"/healthz", "/readyz", "/metrics"}


def problem_response(problem: Problem) -> Response:
    """Return the response of a problem: JSON for programs, a page for people."""
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
        detail = translated(problem.detail).encode("utf-8", "replace").decode()
        again = problem.headers.get("Retry-After") if request.method == "GET" else None
        response = Response(
            render_template(
                template,
                status=problem.status,
                title=title,
                detail=detail,
                is_translated=is_translated(problem.detail),
                again=again,
            ),
            problem.status,
        )
        if again is not None:
            response.headers["Refresh"] = again  # a page that only waits is not to need somebody who asks again
    response.headers.update(problem.headers)
    return response
