"""What a search is made of, as the search page shows it: examples with their weights, each with a way to change it."""

from collections import Counter
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
_QUERY_WEIGHTS = (0.5, 1.0, 2.0, 3.0)  # of what is searched for, as the page gives them


@dataclass(frozen=True)
class Example:
    """An example of a search.

    Attributes:
        collection: The collection that has it.
        mark: Whether hits should be like it or unlike it.
        weight: How often it counts: the search names it so often.
        without: Address of the same search without it.
        reweighted: Address of the same search with its next weight, after the heaviest the lightest.
    """

    image_id: int
    collection: str
    name: str
    mark: Mark
    weight: int
    without: str
    reweighted: str


def examples_of(
    response: SearchResponse,
    collection_of: Callable[[int], str],
    like: Sequence[int],
    unlike: Sequence[int],
    link: Link,
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
            collection = collection_of(image_id)
            name = names[image_id] if image_id in names else _name(collection, image_id)
            found.append(Example(image_id, collection, name, mark, weight, without, reweighted))
    return found


def likely_label(response: SearchResponse, like: Sequence[int]) -> str:
    """Return the label that most of the images found have which hits should be like; empty: none has one."""
    labels = Counter(hit.image.label for hit in response.hits if hit.image.id in like and hit.image.label)
    return max(labels, key=lambda label: labels[label], default="")


def next_weight(weight: float) -> float:
    """Return the weight that follows one of what is searched for, after the heaviest the lightest."""
    return next((heavier for heavier in _QUERY_WEIGHTS if heavier > weight), _QUERY_WEIGHTS[0])


def _name(collection: str, image_id: int) -> str:
    with suppress(NotFound):  # deleted since the search was made
        return web_clients().query.image(collection, image_id).name
    return str(image_id)
