"""The blueprint of the API and the table of its operations."""

import json
from functools import cache
from importlib.metadata import version

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from services.web.api.openapi import Answer, Api
from shared.schemas.urls import API

blueprint = Blueprint("api", __name__, url_prefix=API)
api = Api(
    blueprint,
    title="Artseek",
    version=version("artseek"),
    description="Finds the images in a collection that look like the one you hold up.",
)


def reply(answer: object, status: int = 200) -> Response:
    """Return a typed dictionary as a JSON answer."""
    return Response(json.dumps(answer), status, mimetype="application/json")


@cache
def _document() -> str:
    return json.dumps(api.document())


@api.operation("GET", "/openapi.json", answers={200: Answer("This document.", {"type": "object"})})
def openapi() -> ResponseReturnValue:
    """Describe this API, as OpenAPI 3.1."""
    return Response(_document(), mimetype="application/json")
