"""What a search is asked for, and what it answers."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from services.query.replica.mapped_segment import Vectors
from services.query.replica.view import Filter
from services.query.search.ranking import Ranked
from shared.rpc.query import SearchOptions


@dataclass(frozen=True)
class SearchQuery(SearchOptions):
    """What is searched for: at most one of `image`, `id` and `vector`, or examples; and the options of the search.

    Attributes:
        collection: Name of the collection.
        image: Bytes of an image file.
        id: Id of an image of the collection.
        vector: An embedding, float32 [dim].
        trial: The search is made to evaluate the index, so it does not count as a live search.
    """

    collection: str
    image: bytes | None = None
    id: int | None = None
    vector: Vectors | None = None
    trial: bool = False

    def filter(self) -> Filter:
        """Return which images may be found."""
        among = None if self.among is None else np.fromiter(self.among, np.int64, len(self.among))
        return Filter(frozenset(self.labels) or None, among)


@dataclass
class SearchResult:
    """The answer: hits, how they were found, and milliseconds by stage.

    Attributes:
        candidates: Images that were ranked; of those `passed` that passed the filters and may be over the budget.
        generation: The index generation that was asked, 0 for none; likewise `probed` buckets, `truncated` ones that
            hold more than they gave, and distinct ids `seen` in them before filters and budget.
    """

    hits: list[Ranked] = field(default_factory=list)
    mode: Literal["lsh", "exact"] = "exact"
    candidates: int = 0
    passed: int = 0
    generation: int = 0
    probed: int = 0
    truncated: int = 0
    seen: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)
