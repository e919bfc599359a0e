"""What the address or the form of the search page says, and the addresses of searches."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from flask import url_for
from pydantic import Field

from services.web.api.inputs import READ_FLAG, READ_INTEGER, CollectionName, ImageId
from services.web.api.search_inputs import Digest, Hits, PictureSearchInput, PictureUrl
from services.web.clients import web_clients
from services.web.languages import gettext
from services.web.pages.facets import Facets, facets_of, with_labels
from services.web.pages.query_parts import Example, examples_of, likely_label, next_weight
from services.web.pages.result_view import ResultView
from shared.records.filters import RecordFilter, parse_filter
from shared.rpc.query import SearchResponse
from shared.rpc.query.options import DEFAULTS, MAX_IMAGES, MAX_K

K_CHOICES = (12, 24, 48, 96)
_QUERY: Mapping[str, object] = {"url": "", "box": "", "like": [], "unlike": [], "upload": [], "weight": None}
_CITED = {"model": "", "model_version": 0, "generation": 0}


class SearchForm(PictureSearchInput):
    """The fields of the search page, in its address or its form.

    `upload` names files that were searched for, by their digests. An address that cites an answer names the model and
    the generation of the index that it came from. `everywhere` has all collections searched that share a model with the
    one that is chosen.
    """

    k: Hits = K_CHOICES[0]
    collection: CollectionName | None = None
    id: ImageId | None = None
    url: PictureUrl = ""
    upload: Annotated[list[Digest], Field(max_length=MAX_IMAGES, default_factory=list)]
    everywhere: Annotated[bool, READ_FLAG] = False
    model: Annotated[str, Field(max_length=200)] = ""
    model_version: Annotated[int, Field(ge=0, le=2**53), READ_INTEGER] = 0
    generation: Annotated[int, Field(ge=0, le=2**53), READ_INTEGER] = 0

    @property
    def names_query(self) -> bool:
        """Whether it says what to search for."""
        return bool(self.id or self.url or self.upload or self.like or self.unlike)

    def link(self, **changes: object) -> str:
        """Return the address of the search page with these fields and changes, default values left out.

        Another image to search for takes the place of all that was searched for. The address cites no answer.
        """
        another = _QUERY if "id" in changes else {}
        collection = {"collection": self.collection}
        values = collection | self.model_dump(exclude_defaults=True) | dict.fromkeys(_CITED) | dict(another) | changes
        present = {
            name: _written(value) for name, value in values.items() if value is not None and value not in ("", [])
        }
        return url_for("search.search_page") + "?" + urlencode(present, doseq=True)

    def address(self, response: SearchResponse) -> str:
        """Return the address under which an answer can be cited: it names what the answer came from."""
        return self.link(
            model=response.model, model_version=response.model_version, generation=response.generation or None
        )

    def changed_since(self, response: SearchResponse) -> str:
        """Return how an answer came about otherwise than the one that the address cites; empty: it did not."""
        if not self.model:
            return ""
        if (self.model, self.model_version) != (response.model, response.model_version):
            then, now = _model(self.model, self.model_version), _model(response.model, response.model_version)
        elif self.generation != response.generation:
            then, now = _index(self.generation), _index(response.generation)
        else:
            return ""
        return gettext(
            "This address cites an answer by %(then)s. This one is by %(now)s: images, scores and order may differ.",
            then=then,
            now=now,
        )

    def more(self, response: SearchResponse) -> int:
        """Return how many hits to ask for next; 0 if there are no more to show."""
        return min(2 * self.k, MAX_K) if self.k <= len(response.hits) < min(response.candidates, MAX_K) else 0

    def examples(self, found: ResultView) -> list[Example]:
        """Return the examples of the search that was answered so, in their order."""

        def collection_of(image_id: int) -> str:
            return found.example_places.get(image_id) or self.collection or ""

        return examples_of(found.response, collection_of, self.like, self.unlike, self.link)

    def likely_label(self, response: SearchResponse) -> str:
        """Return the label that images marked as examples have, of those found; empty: none has one."""
        return likely_label(response, self.like)

    @property
    def reweighted(self) -> str:
        """The address of the same search with the next weight of what is searched for."""
        weight = next_weight(self.weight)
        return self.link(weight=None if weight == DEFAULTS.weight else weight)

    @property
    def wanted(self) -> RecordFilter:
        """The filter, with the classes."""
        return with_labels(parse_filter(self.filter, self.text), list(filter(None, self.label)))

    def facets(self) -> Facets:
        """Return the facets of the images that may be found."""
        changed = parse_filter(self.filter)
        return facets_of(
            web_clients().query,
            self.collection or "",
            self.wanted,
            changed,
            lambda text: self.link(filter=text) + "#found",
        )


def _written(value: object) -> object:
    """Return a value as an address has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else value


def _model(name: str, version: int) -> str:
    return gettext("the model %(name)s, version %(version)s", name=name, version=version)


def _index(generation: int) -> str:
    if not generation:
        return gettext("an exact scan")
    return gettext("generation %(generation)s of the index", generation=generation)
