"""The table of the API's operations: it routes requests, checks what they say, and makes the OpenAPI document.

A view is registered with what it takes and answers; there is no second description that could differ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from http import HTTPStatus
from typing import Any

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, TypeAdapter

from services.web import problems
from services.web.api.inputs import checked, checked_texts
from services.web.problems import ProblemAnswer
from shared.images import MEDIA_TYPES
from shared.schemas.urls import API

View = Callable[..., ResponseReturnValue]
Schema = dict[str, Any]

BINARY: Schema = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
IMAGE_TYPES = tuple(MEDIA_TYPES.values())
_REFERENCE = "#/components/schemas/{model}"
_UNREAD = (414, 431)  # what the HTTP server answers before a request gets here
_ALWAYS = (403, 421)  # what the guards answer to any request that changes something, or asks for another host


@dataclass(frozen=True)
class Body:
    """What a request carries: a model or a schema, and which fields of a form are files of images."""

    model: type[BaseModel] | Schema
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """A good answer: what it means, its type (None: no body), media type if it is not JSON, and its headers."""

    description: str
    model: Any = None
    media_types: tuple[str, ...] = ("application/json",)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """One method of one path. `bodies` go by their media types."""

    method: str
    path: str
    view: View
    summary: str
    answers: Mapping[int, Answer]
    problems: tuple[int, ...]
    path_model: type[BaseModel] | None
    query_model: type[BaseModel] | None
    bodies: Mapping[str, Body]


class Api:
    """Collects operations and routes them."""

    def __init__(self, blueprint: Blueprint, *, title: str, version: str, description: str) -> None:
        self._blueprint = blueprint
        self._info = {"title": title, "version": version, "description": description}
        self.operations: list[Operation] = []

    def operation(
        self,
        method: str,
        path: str,
        *,
        answers: Mapping[int, Answer],
        problems: tuple[int, ...] = (),
        path_model: type[BaseModel] | None = None,
        query_model: type[BaseModel] | None = None,
        bodies: Mapping[str, Body] | None = None,
    ) -> Callable[[View], View]:
        """Register a view; it is called with the checked path and query, as far as it has them.

        The first line of its docstring becomes the summary.
        """

        def register(view: View) -> View:
            summary = (view.__doc__ or "").strip().splitlines()[0].rstrip(".")
            made = Operation(
                method, path, view, summary, answers, problems, path_model, query_model, dict(bodies or {})
            )
            self.operations.append(made)
            rule = path.replace("{", "<").replace("}", ">")
            self._blueprint.add_url_rule(
                rule,
                endpoint=view.__name__,
                view_func=_checking(made),
                methods=[method],
                provide_automatic_options=False,
            )
            return view

        return register

    def document(self) -> Schema:
        """Return the OpenAPI 3.1 document."""
        schemas: Schema = {}
        paths: dict[str, Schema] = {}
        for operation in self.operations:
            paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, schemas)
        return {
            "openapi": "3.1.0",
            "info": self._info,
            "servers": [{"url": API}],
            "paths": paths,
            "components": {"schemas": dict(sorted(schemas.items()))},
        }


def image_form(model: type[BaseModel]) -> Schema:
    """Return the schema of a form with an image beside the fields of a model."""
    properties = {"image": BINARY, **flat_schema(model)["properties"]}
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": ["image"]}


def _checking(operation: Operation) -> View:
    @wraps(operation.view)
    def view(**values: str) -> ResponseReturnValue:
        arguments = []
        if operation.path_model:
            arguments.append(checked(operation.path_model, values, "path"))
        texts = request.args.to_dict(flat=False)
        if operation.query_model:
            arguments.append(checked_texts(operation.query_model, texts, "query"))
        elif texts:
            errors = [problems.FieldError(field=f"query.{name[:80]}", message="is not known here") for name in texts]
            raise problems.invalid(errors)
        return operation.view(*arguments)

    return view


def _describe(operation: Operation, schemas: Schema) -> Schema:
    described: Schema = {"operationId": operation.view.__name__, "summary": operation.summary}
    rest = (operation.view.__doc__ or "").strip().partition("\n")[2].strip()
    if rest:
        described["description"] = " ".join(rest.split())
    parameters = [
        {"name": name, "in": place, "required": place == "path" or name in schema.get("required", ()), "schema": value}
        for place, model in (("path", operation.path_model), ("query", operation.query_model))
        if model
        for schema in [flat_schema(model)]
        for name, value in schema["properties"].items()
    ]
    for parameter in parameters:
        parameter["description"] = parameter["schema"].pop("description", "")
    if parameters:
        described["parameters"] = parameters
    if operation.bodies:
        content = {media: _body(body, schemas) for media, body in operation.bodies.items()}
        described["requestBody"] = {"required": True, "content": content}
    described["responses"] = {
        **{str(status): _good(answer, schemas) for status, answer in operation.answers.items()},
        **{str(status): _bad(status, schemas) for status in _failures(operation)},
        **{str(status): _unread(status) for status in _UNREAD},
    }
    return described


def _body(body: Body, schemas: Schema) -> Schema:
    described: Schema = {"schema": _schema(body.model, schemas)}
    if body.files:
        described["encoding"] = {name: {"contentType": ", ".join(IMAGE_TYPES)} for name in body.files}
    return described


def _failures(operation: Operation) -> list[int]:
    always = _ALWAYS if operation.method != "GET" else _ALWAYS[1:]
    return sorted({*operation.problems, *always, 422})


def _good(answer: Answer, schemas: Schema) -> Schema:
    described: Schema = {"description": answer.description}
    if answer.model is not None:
        schema = BINARY if answer.model is bytes else _schema(answer.model, schemas)
        described["content"] = {media: {"schema": schema} for media in answer.media_types}
    if answer.headers:
        described["headers"] = {
            name: {"description": text, "required": True, "schema": {"type": "string"}}
            for name, text in answer.headers.items()
        }
    return described


def _bad(status: int, schemas: Schema) -> Schema:
    content = {problems.MEDIA_TYPE: {"schema": _schema(ProblemAnswer, schemas)}}
    described: Schema = {"description": HTTPStatus(status).phrase, "content": content}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        schema = {"type": "string", "pattern": "^[0-9]+$"}
        described["headers"] = {"Retry-After": {"description": "Seconds to wait.", "required": True, "schema": schema}}
    return described


def _unread(status: int) -> Schema:
    return {"description": HTTPStatus(status).phrase, "content": {"text/html": {"schema": {"type": "string"}}}}


def flat_schema(model: type[BaseModel]) -> Schema:
    """Return the schema of a flat model, without the titles that repeat the names."""
    schema = model.model_json_schema()
    for value in schema["properties"].values():
        value.pop("title", None)
    return schema


def _schema(model: Any, schemas: Schema) -> Schema:
    """Return a schema as it stands, or put a type's into `schemas` and return the reference to it."""
    if isinstance(model, dict):
        return model
    schema = TypeAdapter(model).json_schema(ref_template=_REFERENCE, mode="serialization")
    for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
        for value in part.get("properties", {}).values():
            value.pop("title", None)
        schemas[name] = part
    return {"$ref": _REFERENCE.format(model=model.__name__)}
