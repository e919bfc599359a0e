"""The options of a search: names, defaults, limits and descriptions.

REST API, search page, command line and query service take all of them from `SearchOptions`. An option that is added
there reaches the message by `SearchOptions.to_request` and comes back by `SearchOptions.from_request`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self, get_type_hints

from shared.errors import Invalid
from shared.rpc.query import query_pb2 as messages
from shared.search_limits import MAX_PROBES, Metric

Mode = Literal["auto", "lsh", "exact"]

METRICS: dict[Metric, messages.Metric.ValueType] = {
    "cosine": messages.METRIC_COSINE,
    "euclidean": messages.METRIC_EUCLIDEAN,
}
MODES: dict[Mode, messages.Mode.ValueType] = {
    "auto": messages.MODE_AUTO,
    "lsh": messages.MODE_LSH,
    "exact": messages.MODE_EXACT,
}
METRIC_NAMES = {value: name for name, value in METRICS.items()}
MODE_NAMES = {value: name for name, value in MODES.items()}
MODE_DESCRIPTIONS: dict[Mode, str] = {
    "auto": "Exact for small collections, the index for large ones",
    "lsh": "Ranks the images in the same buckets of the index",
    "exact": "Ranks every image",
}

MAX_K = 1000
MAX_LABELS = 1000
MAX_AMONG = 100_000
MAX_EXAMPLES = 64  # of each kind
MAX_BUDGET = 2**31 - 1  # what the message holds
MAX_IMAGES = 16  # files that are searched for as one query
MAX_FIELDS = 50  # that hits come with
MAX_WEIGHT = 10  # of the query beside examples


@dataclass(frozen=True, kw_only=True)
class Option:
    """What is said of a search option.

    Attributes:
        description: What it does.
        least: The least value of a number.
        most: The greatest value of a number.
        max_items: The greatest length of a list; None: it is no list.
        unset: What a search does where the option is not given; empty: its default says so.
        of_value: What one value of a list does, for a command line that takes them one by one.
    """

    description: str
    least: int | None = None
    most: int | None = None
    max_items: int | None = None
    unset: str = ""
    of_value: str = ""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search; `OPTIONS` says what each option does, and its limits."""

    k: Annotated[int, Option(description="Number of hits", least=1, most=MAX_K)] = 10
    mode: Annotated[
        Mode,
        Option(description="`exact` ranks all images, `lsh` the candidates of the index, `auto` chooses by size"),
    ] = "auto"
    metric: Annotated[Metric, Option(description="How likeness is measured")] = "cosine"
    probes: Annotated[
        int | None,
        Option(description="Buckets probed per table by an LSH search", least=1, most=MAX_PROBES, unset="as fitted"),
    ] = None
    labels: Annotated[
        Sequence[str],
        Option(
            description="Only images of these classes; none: of any",
            max_items=MAX_LABELS,
            of_value="Only images of this class",
        ),
    ] = ()
    among: Annotated[
        Sequence[int] | None, Option(description="Only images with these ids; none: any", max_items=MAX_AMONG)
    ] = None
    like: Annotated[
        Sequence[int],
        Option(
            description="Ids of images that the hits should be like",
            max_items=MAX_EXAMPLES,
            of_value="Id of an image that hits should be like",
        ),
    ] = ()
    unlike: Annotated[
        Sequence[int],
        Option(
            description="Ids of images that the hits should be unlike",
            max_items=MAX_EXAMPLES,
            of_value="Id of one that they should be unlike",
        ),
    ] = ()
    weight: Annotated[
        float, Option(description="How much the query counts beside examples", least=0, most=MAX_WEIGHT)
    ] = 1.0
    min_score: Annotated[float | None, Option(description="Only hits with at least this score", least=-1, most=1)] = (
        None
    )
    budget: Annotated[
        int | None,
        Option(
            description="Candidates of the index that are ranked at most", least=1, most=MAX_BUDGET, unset="as fitted"
        ),
    ] = None

    filter: Annotated[
        str, Option(description='Only images whose records have these values, JSON such as `{"creator": ["…"]}`')
    ] = ""
    text: Annotated[str, Option(description="Only images whose records have all these words")] = ""
    sort: Annotated[
        str, Option(description="Field whose values give the order of the hits, backwards after `-`; empty: the score")
    ] = ""
    group: Annotated[
        str, Option(description="Field by whose first value hits are grouped, the group of the best hit first")
    ] = ""
    fields: Annotated[
        Sequence[str],
        Option(
            description="Fields of the records that hits come with",
            max_items=MAX_FIELDS,
            of_value="Field of the records to print",
        ),
    ] = ()
    regions: Annotated[
        bool, Option(description="Also find images by a region of them, where the regions of a collection are indexed")
    ] = True

    def check(self) -> None:
        """Check the limits. A score may be any finite number: one outside the limits finds all or nothing.

        Raises:
            Invalid: An option does not fit; the message names it.
        """
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if option.max_items is not None:
                items = f"number of {name}" if name in {"labels", "fields"} else f"number of ids in {name}"
                _check_within(items, 0 if value is None else len(value), 0, option.max_items)
            elif name == "min_score":
                if value is not None and not math.isfinite(value):
                    raise Invalid(f"min_score is {value}, expected a finite number")
            elif option.least is not None and value is not None:
                _check_within(name, value, option.least, option.most)

    def to_request(self, collection: str) -> messages.SearchRequest:
        """Return the request with these options, to which the query is to be added."""
        return messages.SearchRequest(
            collection=collection,
            k=self.k,
            mode=MODES[self.mode],
            metric=METRICS[self.metric],
            probes=self.probes or 0,
            labels=self.labels,
            among=None if self.among is None else messages.Ids(values=self.among),
            like=self.like,
            unlike=self.unlike,
            weight=self.weight,
            min_score=self.min_score,
            budget=self.budget or 0,
            filter=self.filter,
            text=self.text,
            sort=self.sort,
            group=self.group,
            fields=self.fields,
            regions=self.regions,
        )

    @classmethod
    def from_request(cls, request: messages.SearchRequest) -> Self:
        """Return the options of a request; `check` checks their limits.

        Raises:
            Invalid: A newer version sent a mode or metric that this one does not know.
        """
        if request.mode not in MODE_NAMES or request.metric not in METRIC_NAMES:
            raise Invalid(f"mode {request.mode} or metric {request.metric} is unknown to this version")
        return cls(
            k=request.k or DEFAULTS.k,
            mode=MODE_NAMES[request.mode],
            metric=METRIC_NAMES[request.metric],
            probes=request.probes or None,
            labels=request.labels,
            among=request.among.values if request.HasField("among") else None,
            like=request.like,
            unlike=request.unlike,
            weight=request.weight if request.HasField("weight") else DEFAULTS.weight,
            min_score=request.min_score if request.HasField("min_score") else None,
            budget=request.budget or None,
            filter=request.filter,
            text=request.text,
            sort=request.sort,
            group=request.group,
            fields=request.fields,
            regions=request.regions if request.HasField("regions") else DEFAULTS.regions,
        )


OPTIONS: dict[str, Option] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(SearchOptions, include_extras=True).items()
}
DEFAULTS = SearchOptions()


def _check_within(name: str, value: float, least: int, most: int | None) -> None:
    if not least <= value or (most is not None and value > most):  # which no comparison with NaN holds
        expected = f"at least {least}" if most is None or most == MAX_BUDGET else f"{least} to {most}"
        raise Invalid(f"{name} is {value}, expected {expected}")
