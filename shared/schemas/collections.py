"""Collections: how many images they have, of which classes, and the model that embeds them."""

from collections.abc import Iterable

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.rpc.query import Collection
from shared.timestamps import rfc3339


class ChangeAnswer(TypedDict):
    """A change of a collection to another model that is under way: how many images were embedded with it so far."""

    model: str
    model_version: int
    images: int


class CollectionAnswer(TypedDict):
    """A collection: how many images it has, how many of each class, and the model that embeds them.

    `damaged` names the segments that cannot be read or are missing: their images are left out. `change` is null unless
    the collection is being embedded with another model; until that is done, it answers by the one it has. `fault` says
    why the collection's manifest cannot be read, null if it can: what is not known of it then is 0 or empty.
    `regions`: whether regions of its images are indexed too; `with_regions` of them have windows, `windows` in all.
    `index_fault` says what Redis has lost of the index, null if nothing: until it is rebuilt, searches scan exactly.
    """

    name: str
    images: int
    labelled: int
    classes: dict[str, int]
    bytes: int
    model: str
    model_version: int
    dim: int
    generation: int
    created: str
    damaged: list[str]
    regions: bool
    with_regions: int
    windows: int
    change: ChangeAnswer | None
    fault: str | None
    index_fault: str | None


class CollectionsAnswer(TypedDict):
    """All collections, by name."""

    collections: list[CollectionAnswer]


def collection_answer(collection: Collection) -> CollectionAnswer:
    """Return a collection, its classes by name."""
    return CollectionAnswer(
        name=collection.name,
        images=collection.images,
        labelled=collection.labelled,
        classes=dict(sorted(collection.classes.items())),
        bytes=collection.bytes,
        model=collection.model,
        model_version=collection.model_version,
        dim=collection.dim,
        generation=collection.generation,
        created=rfc3339(collection.created),
        damaged=list(collection.damaged),
        regions=collection.regions,
        with_regions=collection.with_regions,
        windows=collection.windows,
        change=ChangeAnswer(
            model=collection.change.model,
            model_version=collection.change.model_version,
            images=collection.change.images,
        )
        if collection.HasField("change")
        else None,
        fault=collection.fault or None,
        index_fault=collection.index_fault or None,
    )


def collections_answer(collections: Iterable[Collection]) -> CollectionsAnswer:
    """Return all collections."""
    return CollectionsAnswer(collections=[collection_answer(collection) for collection in collections])
