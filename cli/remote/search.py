"""A search of a remote system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shared.rpc.query import SearchOptions
from shared.rpc.query.options import DEFAULTS
from shared.schemas.across import AcrossAnswer
from shared.schemas.search import SearchAnswer

if TYPE_CHECKING:
    from cli.remote.api import Api

_FIELDS: Final = {"labels": "label"}  # options that the API has under other names


@dataclass(frozen=True)
class Query:
    """What a search is made for: files, an image of the collection, or the picture at an address; else, examples.

    At most one of them is given. `box` names a part of its picture; empty: all of it is searched for. `proof`
    has the first hits compared with it.
    """

    images: Sequence[Path] = ()
    image_id: int | None = None
    url: str = ""
    box: str = ""
    proof: bool = False

    @property
    def number(self) -> int:
        """How many of them are given."""
        return bool(self.images) + (self.image_id is not None) + bool(self.url)


def search(api: "Api", collection: str, options: SearchOptions, query: Query) -> SearchAnswer:
    """Return what is most like a query, or the examples of the options.

    Raises:
        ArtseekError: The system refuses it, or does not answer.
        OSError: The file cannot be read.
    """
    answer: SearchAnswer = _ask(api, f"/collections/{collection}/search", options, query, {})
    return answer


def search_across(api: "Api", collections: Sequence[str], options: SearchOptions, query: Query) -> AcrossAnswer:
    """Return what is most like a query in several collections; in all of them, if none is named.

    Raises:
        ArtseekError: The system refuses it, or does not answer.
        OSError: The file cannot be read.
    """
    answer: AcrossAnswer = _ask(api, "/search", options, query, {"collections": tuple(collections)})
    return answer


def _ask(api: "Api", path: str, options: SearchOptions, query: Query, given: Mapping[str, object]) -> Any:
    given = dict(given) | {
        _FIELDS.get(field.name, field.name): value
        for field in fields(options)
        if (value := getattr(options, field.name)) != getattr(DEFAULTS, field.name)
    }
    if query.box:
        given["box"] = query.box
    if query.proof:
        given["proof"] = True
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    if not query.images:
        named = {"id": query.image_id} if query.image_id is not None else {"url": query.url} if query.url else {}
        return api.post(path, {**values, **named})
    texts = [
        (name, _text(part))
        for name, value in values.items()
        for part in (value if isinstance(value, list) else [value])
    ]
    return api.post_form(path, texts, [("image", file.name, file.read_bytes()) for file in query.images])


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
