"""What a search is made of, as the search page shows it: examples with their weights, each with a way to change it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from services.web.clients import web_clients
from shared.errors import NotFound
from shared.rpc.query import SearchResponse

Mark = Literal["like", "unlike"]
Link = Callable[..., str]

_HEAVIEST = 3  # times that an example counts at most, as the page gives weights


@dataclass(frozen=True)
class Example:
    """An example of a search.

    Attributes:
        mark: Whether hits should be like it or unlike it.
        weight: How often it counts: the search names it so often.
        without: Address of the same search without it.
        reweighted: Address of the same search with its next weight, after the heaviest the lightest.
    """

    image_id: int
    name: str
    mark: Mark
    weight: int
    without: str
    reweighted: str


def examples_of(
    response: SearchResponse, collection: str, like: Sequence[int], unlike: Sequence[int], link: Link
) -> list[Example]:
    """Return the examples of an answered search, each once; `link` returns the address of the search with changes."""
    names = {hit.image.id: hit.image.name for hit in response.hits}
    found = []
    marks: tuple[tuple[Mark, Sequence[int]], ...] = (("like", like), ("unlike", unlike))
    for mark, ids in marks:
        for image_id in dict.fromkeys(ids):
            weight = ids.count(image_id)
            others = [other for other in ids if other != image_id]
            heavier = [*others, *[image_id] * (weight % _HEAVIEST + 1)]
            without, reweighted = link(**{mark: others}), link(**{mark: heavier})
            name = names[image_id] if image_id in names else _name(collection, image_id)
            found.append(Example(image_id, name, mark, weight, without, reweighted))
    return found


def _name(collection: str, image_id: int) -> str:
    with suppress(NotFound):  # deleted since the search was made
        return web_clients().query.image(collection, image_id).name
    return str(image_id)
