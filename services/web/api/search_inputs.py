"""What searches may say: the models that check it, which are also its documentation."""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from services.web.api.inputs import (
    READ_FLAG,
    READ_FLOAT,
    READ_INTEGER,
    CollectionName,
    ImageId,
    Input,
    Label,
    RecordField,
    RecordFilterText,
    RecordName,
    RecordText,
)
from shared.fetching.places import LONGEST
from shared.images import regions
from shared.images.regions import Region
from shared.rpc.query import MAX_BATCH, Metric, Mode, SearchOptions
from shared.rpc.query.options import DEFAULTS, OPTIONS

MAX_DIM = 65_536
MAX_NUMBER = 3e38  # what single precision holds


def _option(name: str) -> Any:
    """Return limits and description of a search option; a number that may be left open has 0 for that."""
    option = OPTIONS[name]
    description = f"{option.description}; 0: {option.unset}." if option.unset else f"{option.description}."
    if option.max_items is not None:
        return Field(max_length=option.max_items, description=description)
    return Field(ge=0 if option.unset else option.least, le=option.most, description=description)


Hits = Annotated[int, _option("k"), READ_INTEGER]


class RankingInput(Input):
    """How to search, in one collection or several."""

    k: Hits = DEFAULTS.k
    mode: Annotated[Mode, _option("mode")] = DEFAULTS.mode
    metric: Annotated[Metric, _option("metric")] = DEFAULTS.metric
    probes: Annotated[int, _option("probes"), READ_INTEGER] = 0
    label: Annotated[list[Label], _option("labels")] = []
    among: Annotated[list[ImageId], _option("among")] = []
    like: Annotated[list[ImageId], _option("like")] = []
    unlike: Annotated[list[ImageId], _option("unlike")] = []
    weight: Annotated[float, _option("weight"), READ_FLOAT] = DEFAULTS.weight
    min_score: Annotated[float, _option("min_score"), READ_FLOAT] = -1.0
    budget: Annotated[int, _option("budget"), READ_INTEGER] = 0
    filter: RecordFilterText = ""
    text: RecordText = ""
    fields: Annotated[list[RecordName], _option("fields")] = []
    regions: Annotated[bool, _option("regions"), READ_FLAG] = DEFAULTS.regions

    def to_options(self) -> SearchOptions:
        """Return the options of the search."""
        return SearchOptions(
            k=self.k,
            mode=self.mode,
            metric=self.metric,
            probes=self.probes or None,
            labels=self.label,
            among=self.among or None,
            like=self.like,
            unlike=self.unlike,
            weight=self.weight,
            min_score=self.min_score,
            budget=self.budget or None,
            filter=self.filter,
            text=self.text,
            fields=self.fields,
            regions=self.regions,
        )


class SearchInput(RankingInput):
    """How to search."""

    sort: Annotated[RecordField, _option("sort")] = ""
    group: Annotated[RecordName, _option("group")] = ""

    def to_options(self) -> SearchOptions:
        """Return the options of the search."""
        return replace(super().to_options(), sort=self.sort, group=self.group)


Vector = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False, ge=-MAX_NUMBER, le=MAX_NUMBER)]],
    Field(min_length=1, max_length=MAX_DIM),
]


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

PictureUrl = Annotated[
    str,
    Field(
        max_length=LONGEST,
        description="Address of a picture, http or https, which the service fetches.",
        examples=["https://pictures.example/melencolia.jpg"],
    ),
]


def _box(text: str) -> str:
    try:
        if text:
            Region.parse(text)
    except ValueError as error:
        raise PydanticCustomError("box", "{reason}", {"reason": str(error)}) from None
    return text


Box = Annotated[
    str,
    Field(
        max_length=regions.LONGEST,
        description="Which part of the picture to search for: x,y,width,height in pixels of the upright original, or "
        "in percent after `pct:`; empty: all of it.",
        examples=["pct:25,25,50,50"],
    ),
    AfterValidator(_box),
]


class PictureSearchInput(SearchInput):
    """How to search for a picture or a part of it."""

    box: Box = ""
    proof: Annotated[
        bool,
        Field(
            description="Compare the first hits with the picture; those that show the same come first, unless "
            "`sort` or `group` say otherwise."
        ),
        READ_FLAG,
    ] = False


class AcrossInput(PictureSearchInput):
    """How to search for a picture or a part of it in several collections."""

    collections: Annotated[
        list[CollectionName],
        Field(max_length=1000, description="Collections to search in; none: all that you may look into."),
    ] = []


class NamedQuery(Input):
    """What to search for, but for a file."""

    id: ImageId = 0
    url: PictureUrl = ""
    vector: Annotated[Vector, Field(description="An embedding of the collection's model.")] = []


class SearchByJson(PictureSearchInput, NamedQuery):
    """A search for what resembles an image of the collection, a picture at an address, an embedding, or examples."""


class AcrossByJson(AcrossInput, NamedQuery):
    """The same in several collections."""


class SearchBatch(SearchInput):
    """Searches with the same options: for images of the collection, or for embeddings."""

    ids: Annotated[
        list[ImageId], Field(min_length=1, max_length=MAX_BATCH, description="Images of the collection.")
    ] = []
    vectors: Annotated[
        list[Vector], Field(min_length=1, max_length=MAX_BATCH, description="Embeddings of the collection's model.")
    ] = []
