"""What the tuner found, as it is stored: every trial worth knowing, the one chosen, and what the built index does.

The maintenance worker makes these reports; API, page and command line read them. `shared.schemas.index` has the JSON
that they show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.search_limits import Metric
from shared.tuning.cost_model import CostModel, CostModelJson

Miss = Literal["recall", "lookups", "share"]
"""What of its goal the tuner could not keep to."""


class TrialAnswer(TypedDict):
    """A hash family with its parameters, and what the tuner predicted of it before anything was written.

    `recall` is the share of the 10 nearest that are found, `recall_error` its standard error; `candidate_share` the
    share of the collection that is ranked, `cost_ms` the time by the cost model.
    """

    family: str
    tables: int
    cells: NotRequired[int]
    hashes: NotRequired[int]
    width: NotRequired[float]
    probes: int
    lookups: int
    budget_share: float | None
    recall: float
    recall_error: float
    candidate_share: float
    cost_ms: float


class MeasuredAnswer(TypedDict):
    """What an index did once it was filled, in searches for some of the collection's images."""

    recall: float | None
    candidate_share: float | None
    queries: int


class TuningReportJson(TypedDict):
    """A `TuningReport` as it is stored."""

    target: float
    max_lookups: int
    max_candidate_share: float
    size: int
    chosen: TrialAnswer
    misses: list[Miss]
    pareto: list[TrialAnswer]
    families: dict[str, list[TrialAnswer]]
    metric: Metric
    cost_model: CostModelJson
    queries: int
    survey_s: float
    tuning_s: float


class IndexReportJson(TuningReportJson):
    """An `IndexReport` as it is stored."""

    measured: MeasuredAnswer
    generation: int
    images: int
    fill_s: float
    built: float


@dataclass(frozen=True, kw_only=True)
class TrialReport:
    """A hash family with its parameters, and what was predicted of it.

    Attributes:
        family: Name of the hash family.
        tables, cells, hashes, width, probes: Its parameters; None: the family has no such parameter.
        lookups: Buckets that a query looks into.
        budget_share: The most that is ranked, as a share of the collection; None: all candidates.
        recall: Share of the 10 nearest that are found.
        recall_error: Its standard error.
        candidate_share: Share of the collection that is ranked.
        cost_ms: Milliseconds of a search by the cost model.
    """

    family: str
    tables: int
    cells: int | None = None
    hashes: int | None = None
    width: float | None = None
    probes: int
    lookups: int
    budget_share: float | None
    recall: float
    recall_error: float
    candidate_share: float
    cost_ms: float

    def to_json(self) -> TrialAnswer:
        """Return the trial as JSON values, without the parameters that the family does not have."""
        value = TrialAnswer(
            family=self.family,
            tables=self.tables,
            probes=self.probes,
            lookups=self.lookups,
            budget_share=self.budget_share,
            recall=self.recall,
            recall_error=self.recall_error,
            candidate_share=self.candidate_share,
            cost_ms=self.cost_ms,
        )
        if self.cells is not None:
            value["cells"] = self.cells
        if self.hashes is not None:
            value["hashes"] = self.hashes
        if self.width is not None:
            value["width"] = self.width
        return value

    @classmethod
    def from_json(cls, value: TrialAnswer) -> "TrialReport":
        """Return the trial that `to_json` gave."""
        return cls(**value)


@dataclass(frozen=True, kw_only=True)
class TuningReport:
    """What the tuner was asked for, what it tried, and what it chose.

    Attributes:
        target: The recall asked for.
        max_lookups: Buckets that a query may look into.
        max_candidate_share: Share of the collection that may be ranked.
        size: Images of the collection that was surveyed.
        chosen: The trial that was chosen.
        misses: What of the goal could not be kept to.
        pareto: The trials that no other beats in both recall and cost, the cheapest first.
        families: The same for each hash family that was tried.
        metric: Whose neighbours are to be found.
        cost_model: What the trials were priced by.
        queries: Images that served as queries.
        survey_s: Seconds that surveying the collection took.
        tuning_s: Seconds that the trials took.
    """

    target: float
    max_lookups: int
    max_candidate_share: float
    size: int
    chosen: TrialReport
    misses: tuple[Miss, ...]
    pareto: tuple[TrialReport, ...]
    families: Mapping[str, tuple[TrialReport, ...]]
    metric: Metric
    cost_model: CostModel
    queries: int
    survey_s: float
    tuning_s: float

    def to_json(self) -> TuningReportJson:
        """Return the report as JSON values."""
        return {
            "target": self.target,
            "max_lookups": self.max_lookups,
            "max_candidate_share": self.max_candidate_share,
            "size": self.size,
            "chosen": self.chosen.to_json(),
            "misses": list(self.misses),
            "pareto": trials_to_json(self.pareto),
            "families": {name: trials_to_json(trials) for name, trials in self.families.items()},
            "metric": self.metric,
            "cost_model": self.cost_model.to_json(),
            "queries": self.queries,
            "survey_s": self.survey_s,
            "tuning_s": self.tuning_s,
        }

    @classmethod
    def from_json(cls, value: TuningReportJson) -> "TuningReport":
        """Return the report that `to_json` gave."""
        return cls(
            target=value["target"],
            max_lookups=value["max_lookups"],
            max_candidate_share=value["max_candidate_share"],
            size=value["size"],
            chosen=TrialReport.from_json(value["chosen"]),
            misses=tuple(value["misses"]),
            pareto=_trials(value["pareto"]),
            families={name: _trials(trials) for name, trials in value["families"].items()},
            metric=value["metric"],
            cost_model=CostModel(**value["cost_model"]),
            queries=value["queries"],
            survey_s=value["survey_s"],
            tuning_s=value["tuning_s"],
        )


@dataclass(frozen=True, kw_only=True)
class MeasuredIndex:
    """What an index did once it was filled, in searches for images of the survey.

    Attributes:
        recall: Mean share of the neighbours that it found; None: no query had any left.
        candidate_share: Mean share of the collection that was ranked; None: likewise.
        queries: Queries that were asked.
    """

    recall: float | None
    candidate_share: float | None
    queries: int

    def to_json(self) -> MeasuredAnswer:
        """Return the figures as JSON values."""
        return {"recall": self.recall, "candidate_share": self.candidate_share, "queries": self.queries}


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """An index generation that was tuned and built: what was predicted and what was measured.

    Attributes:
        tuning: What the tuner found.
        measured: What the index did once it was filled.
        generation: Number of the index generation.
        images: Images that were put into it.
        fill_s: Seconds that filling and checking it took.
        built: When that was done, in seconds since the epoch.
    """

    tuning: TuningReport
    measured: MeasuredIndex
    generation: int
    images: int
    fill_s: float
    built: float

    def to_json(self) -> IndexReportJson:
        """Return the report as JSON values, on one level with those of the tuning."""
        return {
            **self.tuning.to_json(),
            "measured": self.measured.to_json(),
            "generation": self.generation,
            "images": self.images,
            "fill_s": self.fill_s,
            "built": self.built,
        }

    @classmethod
    def from_json(cls, value: IndexReportJson) -> "IndexReport":
        """Return the report that `to_json` gave."""
        return cls(
            tuning=TuningReport.from_json(value),
            measured=MeasuredIndex(**value["measured"]),
            generation=value["generation"],
            images=value["images"],
            fill_s=value["fill_s"],
            built=value["built"],
        )


def trials_to_json(trials: Sequence[TrialReport]) -> list[TrialAnswer]:
    """Return trials as JSON values."""
    return [trial.to_json() for trial in trials]


def _trials(values: Sequence[TrialAnswer]) -> tuple[TrialReport, ...]:
    return tuple(TrialReport.from_json(value) for value in values)
