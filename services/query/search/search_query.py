"""What is searched for, and what is found."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from services.query.replica.mapped_segment import Vectors
from services.query.replica.view import Filter
from services.query.search.ranking import Hit
from shared.rpc.query import SearchOptions


@dataclass(frozen=True)
class SearchQuery(SearchOptions):
    """What is searched for: at most one of `image`, `image_id` and `vector`, or examples; and the search options.

    Attributes:
        collection: Name of the collection.
        image: Bytes of an image file.
        image_id: Id of an image of the collection.
        vector: An embedding, float32 [dim].
        for_evaluation: The search is made to evaluate the index, so it does not count as a live search.
    """

    collection: str
    image: bytes | None = None
    image_id: int | None = None
    vector: Vectors | None = None
    for_evaluation: bool = False

    def filter(self) -> Filter:
        """Return which images may be found."""
        among = None if self.among is None else np.fromiter(self.among, np.int64, len(self.among))
        return Filter(frozenset(self.labels) or None, among)


@dataclass
class SearchResult:
    """The hits of a search, the best first, and how they were found.

    Attributes:
        candidates: Images that were ranked.
        passed: Candidates that passed the filters; more than `candidates` if there were more than the budget.
        generation: The number of the index generation that was asked, 0 for none.
        probed_buckets: Buckets that were looked into.
        truncated_buckets: Probed buckets that hold more ids than they gave.
        seen: Distinct ids in the probed buckets, before filters and budget.
        timings_ms: Milliseconds by stage.
    """

    hits: list[Hit] = field(default_factory=list)
    mode: Literal["lsh", "exact"] = "exact"
    candidates: int = 0
    passed: int = 0
    generation: int = 0
    probed_buckets: int = 0
    truncated_buckets: int = 0
    seen: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)
