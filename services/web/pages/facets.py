"""The facets beside images: values with counts, each a link that filters by it; and the fields of records to choose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from flask import url_for
from pydantic import Field

from services.web.api.inputs import Input, Label, Page, RecordField, RecordFilterText, RecordName, RecordText
from services.web.languages import gettext
from shared.errors import Unavailable
from shared.records.filters import Criterion, Range, RecordFilter, filter_to_json, parse_filter
from shared.records.model import LABEL, PROSE, STANDARD
from shared.rpc.query import Hit, Image, QueryClient, SearchResponse
from shared.rpc.query.options import MAX_FIELDS
from shared.schemas.images import FieldValue, record_of, value_text

_VALUES = 8  # of a field


class CollectionView(Input):
    """Which page of a collection's images is shown, of which class, with which records, in which order."""

    page: Page = 1
    label: Label = ""
    filter: RecordFilterText = ""
    text: RecordText = ""
    sort: RecordField = ""
    fields: list[RecordName] = Field(default_factory=list, max_length=MAX_FIELDS)

    @property
    def wanted(self) -> RecordFilter:
        """The filter, with the class."""
        return with_labels(parse_filter(self.filter, self.text), [self.label] if self.label else [])


@dataclass(frozen=True)
class FacetValue:
    """A value, how many images have it, whether it is chosen, and where to choose it or not."""

    value: str
    count: int
    chosen: bool
    url: str


@dataclass(frozen=True)
class FacetField:
    """A field with its values."""

    name: str
    values: list[FacetValue]

    @property
    def chosen(self) -> bool:
        """Whether one of the values is chosen."""
        return any(value.chosen for value in self.values)


@dataclass(frozen=True)
class ChosenFilter:
    """A value or span that is filtered by, and where to filter by it no more."""

    field: str
    text: str
    url: str


@dataclass(frozen=True)
class Facets:
    """The facets of a page, the filter that they come to, and the fields to sort by, to show and to edit."""

    fields: list[FacetField]
    chosen: list[ChosenFilter]
    filter: str
    sorts: list[str]
    names: list[str]
    present: list[str]


@dataclass(frozen=True)
class HitGroup:
    """Hits that have the value `title` in the field by which they are grouped; None: that have none.

    `places` are the collections of the hits, of a search over several.
    """

    title: str | None
    hits: list[Hit]
    places: list[str]


def facets_of(
    query: QueryClient, collection: str, wanted: RecordFilter, changed: RecordFilter, address: Callable[[str], str]
) -> Facets:
    """Return the facets of the images that pass a filter.

    Args:
        query: Counts them.
        collection: Name of the collection.
        wanted: The whole filter.
        changed: The filter that the links of the facets change.
        address: Returns the address of the page with another filter.
    """
    given = filter_to_json(wanted)
    try:
        found = query.facets(collection, filter=given, text=wanted.text, limit=_VALUES)
    except Unavailable:  # a query service of an older version
        return Facets([], _chosen(changed, address), given, [], [], [])
    fields = [
        FacetField(
            facet.field,
            [
                FacetValue(value.value, value.count, *_choice(changed, facet.field, value.value, address))
                for value in facet.values
            ],
        )
        for facet in found.facets
        if facet.values and facet.field != LABEL
    ]
    present = sorted(found.types)
    return Facets(
        fields,
        _chosen(changed, address),
        given,
        sort_choices(present),
        sorted({*STANDARD, *present}),
        present,
    )


def sort_choices(present: Sequence[str]) -> list[str]:
    """Return the fields to sort and group by, of those that images have."""
    sorts = [name for name in present if name not in PROSE or name in {"title", "identifier"}]
    return [LABEL, *sorts] if present else []


def with_labels(wanted: RecordFilter, labels: Sequence[str]) -> RecordFilter:
    """Return a filter that wants one of these labels too, if there are any."""
    return replace(wanted, criteria={**wanted.criteria, LABEL: tuple(labels)}) if labels else wanted


def page_address(collection: str, view: CollectionView, **changes: object) -> str:
    """Return the address of a collection's page as a view shows it, with changes; what is empty is left out."""
    values = {**view.model_dump(exclude_defaults=True), **changes}
    kept = {name: value for name, value in values.items() if value}
    return url_for("collections.collection_page", name=collection, **kept)


def hit_groups(response: SearchResponse, places: Sequence[str]) -> list[HitGroup]:
    """Return the hits of a search in their groups; one group if they are not grouped.

    `places` are the collections of the hits, empty of a search of one.
    """
    if not response.grouped:
        return [HitGroup(None, list(response.hits), list(places))]
    groups, start = [], 0
    for title, hits in groupby(response.hits, lambda hit: hit.group if hit.HasField("group") else None):
        group = HitGroup(title, list(hits), list(places[start:]))
        groups.append(group)
        start += len(group.hits)
    return groups


def shown_fields(image: Image) -> list[tuple[str, str]]:
    """Return the fields that an image came with, and their values as one line each."""
    fields: dict[str, list[FieldValue]] = record_of(image)["fields"]
    return [(name, " · ".join(value_text(value["value"]) for value in values)) for name, values in fields.items()]


def _choice(changed: RecordFilter, field: str, value: str, address: Callable[[str], str]) -> tuple[bool, str]:
    held = changed.criteria.get(field)
    chosen = isinstance(held, tuple) and value in held
    left = tuple(other for other in held if other != value) if chosen and isinstance(held, tuple) else (value,)
    return chosen, address(_changed_to(changed, field, left))


def _chosen(changed: RecordFilter, address: Callable[[str], str]) -> list[ChosenFilter]:
    chosen = []
    for field, criterion in changed.criteria.items():
        if isinstance(criterion, Range):
            low, high = (str("" if bound is None else bound) for bound in (criterion.low, criterion.high))
            chosen.append(ChosenFilter(field, f"{low} – {high}", address(_changed_to(changed, field, ()))))
            continue
        for value in criterion:
            left = tuple(other for other in criterion if other != value)
            chosen.append(ChosenFilter(field, value or gettext("none"), address(_changed_to(changed, field, left))))
    return chosen


def _changed_to(changed: RecordFilter, field: str, values: Criterion) -> str:
    criteria = {name: kept for name, kept in changed.criteria.items() if name != field}
    if values != ():
        criteria[field] = values
    return filter_to_json(RecordFilter(criteria))
