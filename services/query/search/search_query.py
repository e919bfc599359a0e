"""What is searched for, and what is found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from services.query.replica.mapped_segment import Ids, Rows, Vectors
from services.query.replica.view import Filter, RowFilter, View
from services.query.replica.window_filter import WindowFilter
from services.query.search.ranking import Hit
from shared.images.regions import Region
from shared.rpc.query import SearchOptions


@dataclass(frozen=True)
class SearchQuery(SearchOptions):
    """What is searched for: at most one of `image`, `images`, `image_id` and `vector`, or examples; and the options.

    Attributes:
        collection: Name of the collection.
        image: Bytes of an image file.
        images: Bytes of several image files, which are one query.
        image_id: Id of an image of the collection.
        vector: An embedding, float32 [dim].
        box: Which part of the image is searched for; None: all of it.
        chosen: Returns the rows of a view whose records pass a filter; None: it does not matter what records say.
        for_evaluation: The search is made to evaluate the index, so it does not count as a live search.
    """

    collection: str
    image: bytes | None = None
    images: Sequence[bytes] = ()
    image_id: int | None = None
    vector: Vectors | None = None
    box: Region | None = None
    chosen: Callable[[View], Rows] | None = None
    for_evaluation: bool = False

    def criteria(self) -> Filter:
        """Return which images may be found."""
        among = None if self.among is None else np.fromiter(self.among, np.int64, len(self.among))
        labels = None if self.chosen is not None else frozenset(self.labels) or None  # `chosen` has looked at labels
        return Filter(labels, among, self.chosen)


@dataclass
class SearchResult:
    """The hits of a search, the best first, and how they were found.

    Attributes:
        candidates: Images that were ranked.
        ranked: The ids of these images, some of them more than once; None: all that passed the filters.
        passed: Candidates that passed the filters; more than `candidates` if there were more than the budget.
        generation: The number of the index generation that was asked, 0 for none.
        probed_buckets: Buckets that were looked into.
        truncated_buckets: Probed buckets that hold more ids than they gave.
        seen: Distinct ids in the probed buckets, before filters and budget.
        timings_ms: Milliseconds by stage.
        windows: Windows of images that were ranked beside the images.
        searched: The rows that could be found, as they were then.
        index_fault: Why the index was not asked: Redis has lost a part of it. None if it has not.
    """

    hits: list[Hit] = field(default_factory=list)
    mode: Literal["lsh", "exact"] = "exact"
    candidates: int = 0
    passed: int = 0
    generation: int = 0
    probed_buckets: int = 0
    truncated_buckets: int = 0
    seen: int = 0
    ranked: Ids | None = field(default=None, repr=False, compare=False)
    windows: int = 0
    searched: list[RowFilter | WindowFilter] = field(default_factory=list, repr=False, compare=False)
    timings_ms: dict[str, float] = field(default_factory=dict)
    index_fault: str | None = None
