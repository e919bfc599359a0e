"""The table of the API's operations: it routes requests, checks what they say, and makes the OpenAPI document.

A view is registered with what it takes and answers; there is no second description that could differ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from http import HTTPStatus
from typing import Any

from flask import request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, TypeAdapter

from services.web import problems
from services.web.access.rules import OPEN, GuardedBlueprint, Rule
from services.web.api.inputs import checked, checked_texts
from services.web.problems import ProblemAnswer
from shared.images import MEDIA_TYPES
from shared.rpc.query.options import MAX_IMAGES
from shared.schemas.urls import API

View = Callable[..., ResponseReturnValue]
Schema = dict[str, Any]

BINARY: Schema = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
IMAGE_TYPES = tuple(MEDIA_TYPES.values())
_REFERENCE = "#/components/schemas/{model}"
_UNREAD = (414, 431)  # what the HTTP server answers before a request gets here
_GUARDS = (421, 429)  # what is answered to a request for another host, and to one too many
_BODIES = (400, 413, 415)  # what is answered to a body that cannot be read
_REFUSED = (401, 403)  # what the gate answers to those who may not
_SECURITY: list[Schema] = [{"key": []}, {"session": []}, {}]  # none, for what is public or needs no log-in
_SCHEMES: Schema = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key: `artseek keys create`."},
    "session": {"type": "apiKey", "in": "cookie", "name": "artseek_session", "description": "A browser's log-in."},
}


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
    rule: Rule
    summary: str
    answers: Mapping[int, Answer]
    problems: tuple[int, ...]
    path_model: type[BaseModel] | None
    query_model: type[BaseModel] | None
    bodies: Mapping[str, Body]


class Api:
    """Collects operations and routes them."""

    def __init__(self, blueprint: GuardedBlueprint, *, title: str, version: str, description: str) -> None:
        self._blueprint = blueprint
        self._info = {"title": title, "version": version, "description": description}
        self.operations: list[Operation] = []

    def operation(
        self,
        method: str,
        path: str,
        *,
        rule: Rule,
        answers: Mapping[int, Answer],
        problems: tuple[int, ...] = (),
        path_model: type[BaseModel] | None = None,
        query_model: type[BaseModel] | None = None,
        bodies: Mapping[str, Body] | None = None,
    ) -> Callable[[View], View]:
        """Register a view under a rule; it is called with the checked path and query, as far as it has them.

        The first line of its docstring becomes the summary.
        """

        def register(view: View) -> View:
            summary = (view.__doc__ or "").strip().splitlines()[0].rstrip(".")
            made = Operation(
                method, path, view, rule, summary, answers, problems, path_model, query_model, dict(bodies or {})
            )
            self.operations.append(made)
            self._blueprint.add_url_rule(
                path.replace("{", "<").replace("}", ">"),
                endpoint=view.__name__,
                view_func=_checking(made),
                methods=[method],
                provide_automatic_options=False,
                access=rule,
            )
            return view

        return register

    def document(self, root: str = API) -> Schema:
        """Return the OpenAPI 3.1 document of the API below the path `root`."""
        schemas: Schema = {}
        paths: dict[str, Schema] = {}
        for operation in self.operations:
            paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, schemas)
        return {
            "openapi": "3.1.0",
            "info": self._info,
            "servers": [{"url": root}],
            "paths": paths,
            "security": _SECURITY,
            "components": {"schemas": dict(sorted(schemas.items())), "securitySchemes": _SCHEMES},
        }


def image_form(model: type[BaseModel]) -> Schema:
    """Return the schema of a form with one or several files in `image` beside the fields of a model."""
    files = {"type": "array", "items": BINARY, "minItems": 1, "maxItems": MAX_IMAGES, "description": "Image files."}
    properties = {"image": files, **flat_schema(model)["properties"]}
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": ["image"]}


def files_form(model: type[BaseModel]) -> Schema:
    """Return the schema of a form with files in `images`, or one in `image`, beside the fields of a model."""
    fields = flat_schema(model)
    properties = {
        "images": {"type": "array", "items": BINARY, "minItems": 1, "description": "Files."},
        "image": {**BINARY, "description": "A single file."},
        **fields["properties"],
    }
    required = {"required": fields["required"]} if "required" in fields else {}
    choice = [{"required": ["images"]}, {"required": ["image"]}]
    return {"type": "object", "additionalProperties": False, "properties": properties, **required, "anyOf": choice}


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
        schema = parameter["schema"]
        parameter["description"] = schema.pop("description", "")
        if schema.get("type") == ["string", "object"]:  # an address holds the text of an object
            schema["type"] = "string"
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
    refused = _REFUSED if operation.rule != OPEN else ()
    unread = _BODIES if operation.bodies else ()
    return sorted({*operation.problems, *_GUARDS, *refused, *unread, 422})


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
    if status == HTTPStatus.UNAUTHORIZED:
        header = {"description": "`Bearer`.", "required": True, "schema": {"type": "string"}}
        described["headers"] = {"WWW-Authenticate": header}
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        schema = {"type": "string", "pattern": "^[0-9]+$"}
        described["headers"] = {"Retry-After": {"description": "Seconds to wait.", "required": True, "schema": schema}}
    return described


def _unread(status: int) -> Schema:
    return {"description": HTTPStatus(status).phrase, "content": {"text/plain": {"schema": {"type": "string"}}}}


def flat_schema(model: type[BaseModel]) -> Schema:
    """Return the schema of a model, without the titles that repeat the names, and with those of its parts in place."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})
    for value in (schema, *parts.values()):
        for described in value["properties"].values():
            described.pop("title", None)
    whole: Schema = _with_parts(schema, parts)
    return whole


def _with_parts(schema: Any, parts: Schema) -> Any:
    """Return a schema in which each reference to a part is that part."""
    if isinstance(schema, list):
        return [_with_parts(item, parts) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _with_parts(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {name: _with_parts(value, parts) for name, value in schema.items()}


def _schema(model: Any, schemas: Schema) -> Schema:
    """Return a schema as it stands, or put a type's into `schemas` and return the reference to it."""
    if isinstance(model, dict):
        return model
    schema = TypeAdapter(model).json_schema(ref_template=_REFERENCE, mode="serialization")
    for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
        for value in part.get("properties", {}).values():
            value.pop("title", None)
        if schemas.setdefault(name, part) != part:
            raise ValueError(f"two types of the API are called {name}: give one of them another name")
    return {"$ref": _REFERENCE.format(model=model.__name__)}
