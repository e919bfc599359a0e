"""The scores of one run of an evaluation: all queries, searched for in one way. docs/evaluation.md defines them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from typing_extensions import TypedDict

from shared.evaluation.report_json import (
    ClassFiguresAnswer,
    JudgedIndexAnswer,
    RunAnswer,
    SpreadAnswer,
    WithoutCopiesAnswer,
)
from shared.search_limits import Metric

ScoreName = Literal["p_at_k", "ap_at_k", "recall_at_k"]
SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)

Interval = tuple[float, float]
"""Lower and upper bound of a confidence interval."""


class _FamilyOwnJson(TypedDict, total=False):
    hashes: int
    width: float
    cells: int


@dataclass(frozen=True, kw_only=True)
class EvaluatedIndex:
    """The parameters of an index that was searched.

    Attributes:
        generation: Its number; 0: it was built for a grid.
        family: Name of its hash family.
        tables, hashes, width, cells, probes: Parameters of the family; None: it has no such parameter.
        budget_share: The most that is ranked, as a share of the collection; None: all candidates.
    """

    generation: int
    family: str
    tables: int
    hashes: int | None = None
    width: float | None = None
    cells: int | None = None
    probes: int
    budget_share: float | None

    def to_json(self) -> JudgedIndexAnswer:
        """Return the index as JSON values, without the parameters that its family does not have."""
        own = _FamilyOwnJson()
        if self.hashes is not None:
            own["hashes"] = self.hashes
        if self.width is not None:
            own["width"] = self.width
        if self.cells is not None:
            own["cells"] = self.cells
        return {
            "generation": self.generation,
            "family": self.family,
            "tables": self.tables,
            **own,
            "probes": self.probes,
            "budget_share": self.budget_share,
        }

    @classmethod
    def from_json(cls, value: JudgedIndexAnswer) -> "EvaluatedIndex":
        """Return the index that `to_json` gave."""
        return cls(**value)


@dataclass(frozen=True, kw_only=True)
class LatencySummary:
    """How long the queries took that were searched for one at a time.

    Attributes:
        p50: Their median in milliseconds; None if there was none.
        p95: Their 95th percentile in milliseconds; None likewise.
        queries: How many they were.
    """

    p50: float | None
    p95: float | None
    queries: int

    def to_json(self) -> SpreadAnswer:
        """Return the summary as JSON values."""
        return {"p50": self.p50, "p95": self.p95, "queries": self.queries}


@dataclass(frozen=True, kw_only=True)
class MeanScores:
    """Means over queries.

    Attributes:
        p_at_k: Of P@k.
        ap_at_k: Of AP@k.
        recall_at_k: Of recall@k.
        candidates: Of the number of images that were ranked.
        mean_distance: Of the distances of the hits; None if nothing was found.
        mean_similarity: Of the similarities of the hits; None likewise.
        interval: The confidence intervals of those means for which one was drawn, by name.
    """

    p_at_k: float
    ap_at_k: float
    recall_at_k: float
    candidates: float
    mean_distance: float | None
    mean_similarity: float | None
    interval: Mapping[str, Interval]

    def score(self, name: ScoreName) -> float:
        """Return a score by its name."""
        match name:
            case "p_at_k":
                return self.p_at_k
            case "ap_at_k":
                return self.ap_at_k
            case "recall_at_k":
                return self.recall_at_k


@dataclass(frozen=True, kw_only=True)
class ClassScores(MeanScores):
    """The scores of the queries of one class.

    Attributes:
        queries: How many they are.
        relevant: Images of the class in the collection.
    """

    queries: int
    relevant: int

    def to_json(self) -> ClassFiguresAnswer:
        """Return the scores as JSON values."""
        return {
            "queries": self.queries,
            "relevant": self.relevant,
            "p_at_k": self.p_at_k,
            "ap_at_k": self.ap_at_k,
            "recall_at_k": self.recall_at_k,
            "candidates": self.candidates,
            "mean_distance": self.mean_distance,
            "mean_similarity": self.mean_similarity,
            "interval": _intervals_to_json(self.interval),
        }

    @classmethod
    def from_json(cls, value: ClassFiguresAnswer) -> "ClassScores":
        """Return the scores that `to_json` gave."""
        return cls(
            queries=value["queries"],
            relevant=value["relevant"],
            p_at_k=value["p_at_k"],
            ap_at_k=value["ap_at_k"],
            recall_at_k=value["recall_at_k"],
            candidates=value["candidates"],
            mean_distance=value["mean_distance"],
            mean_similarity=value["mean_similarity"],
            interval=_intervals(value["interval"]),
        )


@dataclass(frozen=True, kw_only=True)
class ScoresWithoutCopies:
    """Means over the queries of which the collection has no copy.

    Attributes:
        queries: How many they are.
        p_at_k: Of P@k; None if there is no such query.
        ap_at_k: Of AP@k; None likewise.
    """

    queries: int
    p_at_k: float | None
    ap_at_k: float | None

    def to_json(self) -> WithoutCopiesAnswer:
        """Return the scores as JSON values."""
        return {"queries": self.queries, "p_at_k": self.p_at_k, "ap_at_k": self.ap_at_k}


@dataclass(frozen=True, kw_only=True)
class MacroScores:
    """Means of the means of the classes, so that each class counts alike: of P@k, AP@k and recall@k."""

    p_at_k: float
    ap_at_k: float
    recall_at_k: float

    def to_json(self) -> dict[str, float]:
        """Return the scores as JSON values."""
        return {"p_at_k": self.p_at_k, "ap_at_k": self.ap_at_k, "recall_at_k": self.recall_at_k}


class _WithoutCopiesJson(TypedDict, total=False):
    without_copies: WithoutCopiesAnswer


@dataclass(frozen=True, kw_only=True)
class RunScores(MeanScores):
    """How good one way to search was, over all queries.

    Attributes:
        id: What the run is called, such as ``lsh-cosine-all``.
        search: By an exact scan, or by an index.
        metric: By which metric.
        distractors: Whether unlabelled images could be found.
        candidate_fraction: Mean share of the images that were ranked.
        seen: Mean number of images in the buckets, before filters.
        without_copies: The scores of queries without copies; None in evaluations from before copies were looked for.
        macro: The means of the means of the classes.
        per_class: The scores of each class of queries.
        confusion: Hits by the class of the query, then that of the hit; "" for unlabelled hits.
        latency_ms: How long whole searches took.
        stages_ms: How long each stage of them took.
        index: The index that was searched; None for an exact scan.
    """

    id: str
    search: Literal["exact", "lsh"]
    metric: Metric
    distractors: bool
    candidate_fraction: float
    seen: float
    without_copies: ScoresWithoutCopies | None = None
    macro: MacroScores
    per_class: Mapping[str, ClassScores]
    confusion: Mapping[str, Mapping[str, int]]
    latency_ms: LatencySummary
    stages_ms: Mapping[str, LatencySummary]
    index: EvaluatedIndex | None

    def to_json(self) -> RunAnswer:
        """Return the scores as JSON values."""
        without_copies = _WithoutCopiesJson()
        if self.without_copies is not None:
            without_copies["without_copies"] = self.without_copies.to_json()
        return {
            "id": self.id,
            "search": self.search,
            "metric": self.metric,
            "distractors": self.distractors,
            "p_at_k": self.p_at_k,
            "ap_at_k": self.ap_at_k,
            "recall_at_k": self.recall_at_k,
            "candidates": self.candidates,
            "candidate_fraction": self.candidate_fraction,
            "seen": self.seen,
            "mean_distance": self.mean_distance,
            "mean_similarity": self.mean_similarity,
            **without_copies,
            "macro": self.macro.to_json(),
            "interval": _intervals_to_json(self.interval),
            "per_class": {label: scores.to_json() for label, scores in self.per_class.items()},
            "confusion": {label: dict(counts) for label, counts in self.confusion.items()},
            "latency_ms": self.latency_ms.to_json(),
            "stages_ms": {stage: latency.to_json() for stage, latency in self.stages_ms.items()},
            "index": None if self.index is None else self.index.to_json(),
        }

    @classmethod
    def from_json(cls, value: RunAnswer) -> "RunScores":
        """Return the scores that `to_json` gave."""
        index, macro, without_copies = value["index"], value["macro"], value.get("without_copies")
        return cls(
            id=value["id"],
            search=value["search"],
            metric=value["metric"],
            distractors=value["distractors"],
            p_at_k=value["p_at_k"],
            ap_at_k=value["ap_at_k"],
            recall_at_k=value["recall_at_k"],
            candidates=value["candidates"],
            candidate_fraction=value["candidate_fraction"],
            seen=value["seen"],
            mean_distance=value["mean_distance"],
            mean_similarity=value["mean_similarity"],
            without_copies=None if without_copies is None else ScoresWithoutCopies(**without_copies),
            macro=MacroScores(p_at_k=macro["p_at_k"], ap_at_k=macro["ap_at_k"], recall_at_k=macro["recall_at_k"]),
            interval=_intervals(value["interval"]),
            per_class={label: ClassScores.from_json(scores) for label, scores in value["per_class"].items()},
            confusion=value["confusion"],
            latency_ms=LatencySummary(**value["latency_ms"]),
            stages_ms={stage: LatencySummary(**latency) for stage, latency in value["stages_ms"].items()},
            index=None if index is None else EvaluatedIndex.from_json(index),
        )


def _intervals_to_json(intervals: Mapping[str, Interval]) -> dict[str, list[float]]:
    return {name: [low, high] for name, (low, high) in intervals.items()}


def _intervals(value: Mapping[str, list[float]]) -> dict[str, Interval]:
    return {name: (low, high) for name, (low, high) in value.items()}
