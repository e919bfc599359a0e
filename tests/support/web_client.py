"""A client of the REST API for tests: every answer is held against the OpenAPI document."""

import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from jsonschema import Draft202012Validator
from PIL import Image, ImageDraw

from tests.support.eventually import PATIENCE_S, eventually

PROBLEM = "application/problem+json"
SEARCH = "POST /collections/{name}/search"
BATCH = "POST /collections/{name}/search-batch"
PROOF = "POST /collections/{name}/proof"
IMAGES = "GET /collections/{name}/images"
ADD = "POST /collections/{name}/images"
File = tuple[str, bytes]


def picture(seed: int, *, form: str = "JPEG", size: tuple[int, int] = (160, 120)) -> bytes:
    """Return an image of coloured shapes; another seed gives another image."""
    chance = random.Random(seed)
    image = Image.new("RGB", size, _colour(chance))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = chance.randrange(size[0]), chance.randrange(size[1])
        width, height = chance.randrange(10, 60), chance.randrange(10, 60)
        shape = chance.choice([draw.rectangle, draw.ellipse])
        shape((x, y, x + width, y + height), fill=_colour(chance))
    file = io.BytesIO()
    image.save(file, form, quality=90)
    return file.getvalue()


def _colour(chance: random.Random) -> tuple[int, int, int]:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256)


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers, body."""

    status: int
    headers: urllib3.HTTPHeaderDict
    body: bytes

    @cached_property
    def json(self) -> Any:
        """The body's JSON value."""
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """The media type, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0]


class Client:
    """Calls operations of the document by their path template, and checks what comes back against it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = urllib3.PoolManager(retries=False, timeout=PATIENCE_S)
        self.document: dict[str, Any] = json.loads(self.send("GET", "/api/v1/openapi.json").body)

    def send(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        fields: Sequence[tuple[str, str | File]] | None = None,
    ) -> Reply:
        """Send any request; `fields` make a form."""
        options: dict[str, Any] = {"body": body} if fields is None else {"fields": fields, "multipart_boundary": None}
        options = {name: value for name, value in options.items() if value is not None}
        answer = self._http.request(method, self.url + target, headers=headers, redirect=False, **options)
        return Reply(answer.status, answer.headers, answer.data)

    def call(
        self,
        operation: str,
        *,
        query: Mapping[str, object] | None = None,
        value: object = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        fields: Sequence[tuple[str, str | File]] | None = None,
        **path: object,
    ) -> Reply:
        """Call an operation such as ``GET /collections/{name}``; `value` is sent as JSON."""
        method, template = operation.split(" ")
        target = "/api/v1" + template.format(**{name: quote(str(part), safe="") for name, part in path.items()})
        if query:
            target += "?" + urlencode(query)
        headers = dict(headers or {})
        if value is not None:
            body, headers["Content-Type"] = json.dumps(value).encode(), "application/json"
        reply = self.send(method, target, body=body, headers=headers, fields=fields)
        self.check(method, template, reply)
        return reply

    def check(self, method: str, template: str, reply: Reply) -> None:
        """Hold an answer against the document, which must allow no field that it does not name."""
        responses = self.document["paths"][template][method.lower()]["responses"]
        assert str(reply.status) in responses, (reply.status, reply.body[:500])
        response = responses[str(reply.status)]
        for name, header in response.get("headers", {}).items():
            assert name in reply.headers or not header["required"], name
        content = response.get("content")
        if content is None:
            assert not reply.body
            return
        assert reply.kind in content
        if reply.kind.endswith("json"):
            schema = {**content[reply.kind]["schema"], "components": _closed(self.document["components"])}
            Draft202012Validator(schema).validate(reply.json)

    # What several tests do

    def upload(self, collection: str, files: Sequence[File], *, label: str = "") -> dict[str, Any]:
        """Add files to a collection and wait until they are in; returns the job."""
        fields: list[tuple[str, str | File]] = [("images", file) for file in files]
        reply = self.call("POST /collections/{name}/images", name=collection, fields=[*fields, ("label", label)])
        assert reply.status == 202, reply.body
        job = self.finished(reply.json["job"])
        self.wait_for(collection, job["added"])
        return job

    def finished(self, job: str) -> dict[str, Any]:
        """Wait until a job is done; returns it."""
        found: dict[str, Any] = eventually(
            lambda: self.call("GET /jobs/{id}", id=job).json, until=lambda seen: bool(seen["state"] == "done")
        )
        return found

    def wait_for(self, collection: str, images: int) -> list[dict[str, Any]]:
        """Wait until searches know of at least so many images; returns the latest."""
        reply = eventually(
            lambda: self.call("GET /collections/{name}/images", name=collection, query={"limit": 1000}),
            until=lambda seen: bool(seen.status == 200 and seen.json["total"] >= images),
        )
        found: list[dict[str, Any]] = reply.json["images"]
        return found

    def wait_for_index(self, collection: str) -> None:
        """Wait until the index of a collection is fitted and known to be whole: until then searches scan exactly."""
        eventually(
            lambda: self.call("GET /collections/{name}", name=collection).json,
            until=lambda found: bool(found["generation"]) and found["index_fault"] is None,
        )


def _closed(components: dict[str, Any]) -> dict[str, Any]:
    closed: dict[str, Any] = json.loads(json.dumps(components))
    for schema in closed["schemas"].values():
        schema.setdefault("additionalProperties", False)
    return closed
