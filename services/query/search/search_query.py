"""What a search is asked for, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from services.query.replica.mapped_segment import Ids, Vectors
from services.query.replica.view import Filter
from services.query.search.ranking import Ranked
from shared.errors import Invalid
from shared.rpc.query import MAX_AMONG, MAX_EXAMPLES, MAX_K, MAX_LABELS, MAX_PROBES, Metric, Mode


@dataclass(frozen=True)
class SearchQuery:
    """What is searched for: at most one of `image` (bytes of a file), `id` and `vector` (float32 [dim]), or examples.

    Attributes:
        labels: Only images with one of these; none: any.
        among: Only images with these ids, int64; None: any.
        like: Ids of images that the hits should be like; likewise `unlike`.
        min_score: Only hits with at least this score.
        budget: Candidates of the index that are ranked at most; None: what the index was fitted with.
        trial: It is made to judge the index, so it does not count as a live search.
    """

    collection: str
    image: bytes | None = None
    id: int | None = None
    vector: Vectors | None = None
    k: int = 10
    mode: Mode = "auto"
    metric: Metric = "cosine"
    probes: int | None = None
    labels: Sequence[str] = ()
    among: Ids | None = None
    like: Sequence[int] = ()
    unlike: Sequence[int] = ()
    min_score: float | None = None
    budget: int | None = None
    trial: bool = False

    def check(self) -> None:
        """Check what can be checked without the collection.

        Raises:
            Invalid: A parameter does not fit; the message names it.
        """
        check_within("k", self.k, 1, MAX_K)
        for name, value, most in (("probes", self.probes, MAX_PROBES), ("budget", self.budget, None)):
            if value is not None:
                check_within(name, value, 1, most)
        check_within("labels", len(self.labels), 0, MAX_LABELS, "number of ")
        if self.among is not None:
            check_within("among", len(self.among), 0, MAX_AMONG, "number of ids in ")
        for name, examples in (("like", self.like), ("unlike", self.unlike)):
            check_within(name, len(examples), 0, MAX_EXAMPLES, "number of ids in ")
        if self.min_score is not None and not np.isfinite(self.min_score):
            raise Invalid(f"min_score is {self.min_score}, expected a finite number")

    def filter(self) -> Filter:
        """Return which images may be found."""
        return Filter(frozenset(self.labels) or None, self.among)


def check_within(name: str, value: int, least: int, most: int | None, what: str = "") -> None:
    """Check a number.

    Raises:
        Invalid: It is out of range; the message names it.
    """
    if value < least or (most is not None and value > most):
        expected = f"at least {least}" if most is None else f"{least} to {most}"
        raise Invalid(f"{what}{name} is {value}, expected {expected}")


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
