"""The blueprint of the API and the table of its operations."""

import json
from functools import cache
from importlib.metadata import version

from flask import Response, request
from flask.typing import ResponseReturnValue

from services.web.access.rules import OPEN, GuardedBlueprint
from services.web.api.inputs import MAX_JSON, read_json
from services.web.api.openapi import Answer, Api
from services.web.problems import Problem
from shared.schemas.images import DeletionAnswer
from shared.schemas.urls import API, api_url, job_url

blueprint = GuardedBlueprint("api", __name__, url_prefix=API)
api = Api(
    blueprint,
    title="Artseek",
    version=version("artseek"),
    description="Finds the images in a collection that look like the one you hold up.",
)


def reply(answer: object, status: int = 200) -> Response:
    """Return a typed dictionary as a JSON answer."""
    return Response(json.dumps(answer), status, mimetype="application/json")


def json_body() -> dict[str, object]:
    """Return the object that the JSON body of this request holds.

    Raises:
        Problem: It is none, or too large.
    """
    if request.mimetype != "application/json":
        raise Problem(415, "unsupported-media-type", f"{request.mimetype[:80]!r} is not taken: send JSON")
    request.max_content_length = MAX_JSON
    return read_json(request.get_data())


def deletion_reply(job: str | None) -> ResponseReturnValue:
    """Return 204 for what is gone, or 202 with the job that is still at it."""
    if job is None:
        return "", 204
    response = reply(DeletionAnswer(job=job, url=job_url(job)), 202)
    response.headers["Location"] = job_url(job)
    return response


@cache
def _document(root: str) -> str:
    return json.dumps(api.document(root))


@api.operation("GET", "/openapi.json", rule=OPEN, answers={200: Answer("This document.", {"type": "object"})})
def openapi() -> ResponseReturnValue:
    """Describe this API, as OpenAPI 3.1."""
    return Response(_document(api_url("")), mimetype="application/json")
