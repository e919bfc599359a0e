"""Whoever reads a whole collection misses none of its images, though others are deleted from it meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import cli.remote.sync
from cli.remote.api import Api
from cli.remote.sync import RemoteCollection
from services.evaluator.class_field import ClassField
from shared.records import editing
from shared.records.editing import all_images
from shared.rpc.query.connecting import connect_query
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

NAME = "shrinking"
COUNT = 11

Read = Callable[[Stack, Callable[[], None]], set[int]]


class _Interrupted:
    """Passes calls on to a part; after the second page, something else happens."""

    def __init__(self, part: Any, then: Callable[[], None]) -> None:
        self._part, self._then, self._pages = part, then, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def _count(self, page: Any) -> Any:
        self._pages += 1
        if self._pages == 2:
            self._then()
        return page

    def images(self, *arguments: Any, **options: Any) -> Any:
        return self._count(self._part.images(*arguments, **options))

    def get(self, path: str) -> Any:
        return self._count(self._part.get(path))


def _listed(stack: Stack, then: Callable[[], None]) -> set[int]:
    query: Any = _Interrupted(connect_query(stack.settings, deadline_s=60.0), then)
    return {image.id for image in all_images(query, NAME)}


def _classified(stack: Stack, then: Callable[[], None]) -> set[int]:
    query: Any = _Interrupted(connect_query(stack.settings, deadline_s=60.0), then)
    return {image_id for image_id, _ in ClassField(query, "label").texts(NAME)}


def _synchronised(stack: Stack, then: Callable[[], None]) -> set[int]:
    api: Any = _Interrupted(Api(stack.url, ""), then)
    return {image.id for image in RemoteCollection(api, NAME, max_bytes=10**6).images()}


@pytest.fixture
def ids(stack: Stack) -> Iterator[Sequence[int]]:
    """The images of a collection as they are listed."""
    client = Client(stack.url)
    client.upload(NAME, [(f"{number}.jpg", picture(61_000 + number)) for number in range(COUNT)], label="work")
    images = client.call("GET /collections/{name}/images", name=NAME).json["images"]
    yield [image["id"] for image in images]
    stack.artseek("delete", "--collection", NAME, "--whole-collection")


@pytest.mark.parametrize("read", [_listed, _classified, _synchronised])
@pytest.mark.parametrize("gone", [slice(0, 1), slice(1, 6)])
def test_what_is_deleted_behind_a_reader_hides_nothing_before_it(
    stack: Stack, ids: Sequence[int], monkeypatch: pytest.MonkeyPatch, read: Read, gone: slice
) -> None:
    monkeypatch.setattr(editing, "_PAGE", 4)
    monkeypatch.setattr(cli.remote.sync, "_PAGE", 4)
    client = Client(stack.url)

    def total() -> int:
        return int(client.call("GET /collections/{name}/images", name=NAME).json["total"])

    def delete() -> None:
        for image_id in ids[gone]:
            client.call("DELETE /collections/{name}/images/{id}", name=NAME, id=image_id)
        eventually(lambda: total() == COUNT - len(ids[gone]))

    assert len(ids) == COUNT
    assert set(ids) - set(ids[gone]) <= read(stack, delete) <= set(ids)
    assert total() == COUNT - len(ids[gone])
