"""The report on an index, and what a tuning would choose."""

from typing import Literal

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.search_limits import Metric
from shared.timestamps import rfc3339
from shared.tuning.report import IndexReport, MeasuredAnswer, TrialAnswer, TuningReport, trials_to_json


class TuningAnswer(TypedDict):
    """What an index was tuned to, what was predicted of it, and what else could be had.

    `misses` names what of the goal could not be kept to. `pareto` has the trials that no other beats in both recall and
    cost, over all families; `families` has them for each.
    """

    images: int
    metric: Metric
    target: float
    max_lookups: int
    max_candidate_share: float
    chosen: TrialAnswer
    misses: list[Literal["recall", "lookups", "share"]]
    pareto: list[TrialAnswer]
    families: dict[str, list[TrialAnswer]]


class IndexAnswer(TuningAnswer):
    """The index in use: what it was tuned to, what was predicted and measured, and what else could be had.

    `misses` names what of the goal could not be kept to. `pareto` has the trials that no other beats in both recall and
    cost, over all families; `families` has them for each.
    """

    generation: int
    measured: MeasuredAnswer
    built: str


def tuning_answer(report: TuningReport) -> TuningAnswer:
    """Return what the tuner would choose."""
    return {
        "images": report.size,
        "metric": report.metric,
        "target": report.target,
        "max_lookups": report.max_lookups,
        "max_candidate_share": report.max_candidate_share,
        "chosen": report.chosen.to_json(),
        "misses": list(report.misses),
        "pareto": trials_to_json(report.pareto),
        "families": {name: trials_to_json(trials) for name, trials in report.families.items()},
    }


def index_answer(report: IndexReport) -> IndexAnswer:
    """Return the report on an index generation."""
    return {
        **tuning_answer(report.tuning),
        "images": report.images,
        "generation": report.generation,
        "measured": report.measured.to_json(),
        "built": rfc3339(report.built),
    }
