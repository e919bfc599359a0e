"""The tuner: which family, with which parameters, reaches a recall at the least cost.

It tries families on a survey of the collection, predicts recall, candidates and look-ups of each, prices them by a
cost model, and chooses the cheapest that keeps to the goal. Nothing is written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.hashing.types import HashFamily, HashingError
from shared.tuning.cost_model import TYPICAL, CostModel
from shared.tuning.families import TRIALS
from shared.tuning.goal import Goal
from shared.tuning.report import Miss, TuningReport
from shared.tuning.sampling import Sample
from shared.tuning.trials import Trial


@dataclass(frozen=True, eq=False)
class Tuning:
    """What was tried, and what was chosen of it.

    Attributes:
        goal: What the index is to reach.
        trials: All that was tried.
        chosen: The trial that was chosen.
        size: Images of the collection.
    """

    goal: Goal
    trials: tuple[Trial, ...]
    chosen: Trial
    size: int

    @property
    def family(self) -> HashFamily:
        """The family that was chosen; its parameters tell what is predicted of it."""
        return self.chosen.family.with_parameters(
            size=self.size,
            recall_target=self.goal.recall,
            recall=self.chosen.recall,
            candidate_fraction=self.chosen.candidate_share,
        )

    @property
    def misses(self) -> tuple[Miss, ...]:
        """What of the goal no trial could keep to together with the rest."""
        return _misses(self.chosen, self.goal)

    def pareto(self, family: str | None = None) -> list[Trial]:
        """Return the trials, of a family or of all, that no other beats in both recall and cost, the cheapest first."""
        trials = [trial for trial in self.trials if family is None or trial.family.family == family]
        best: list[Trial] = []
        for trial in sorted(trials, key=lambda trial: (trial.cost_ms, -trial.recall)):
            if not best or trial.recall > best[-1].recall:
                best.append(trial)
        return best

    def report(self, sample: Sample, *, costs: CostModel, survey_s: float, tuning_s: float) -> TuningReport:
        """Return choice and Pareto curves, over all families and of each.

        Args:
            sample: The survey that the families were tried on.
            costs: What they were priced by.
            survey_s: Seconds that the survey took.
            tuning_s: Seconds that the trials took.
        """
        families = dict.fromkeys(trial.family.family for trial in self.trials)
        return TuningReport(
            target=self.goal.recall,
            max_lookups=self.goal.max_lookups,
            max_candidate_share=self.goal.max_share,
            size=self.size,
            chosen=self.chosen.report(),
            misses=self.misses,
            pareto=tuple(trial.report() for trial in self.pareto()),
            families={name: tuple(trial.report() for trial in self.pareto(name)) for name in families},
            metric=sample.metric,
            cost_model=costs,
            queries=len(sample.queries),
            survey_s=round(survey_s, 2),
            tuning_s=round(tuning_s, 2),
        )


def tune(sample: Sample, goal: Goal, *, costs: CostModel = TYPICAL) -> Tuning:
    """Return what was tried on a survey and the cheapest that keeps to the goal: the same for the same arguments.

    Queries from elsewhere may miss more than the collection's own images do. So the cheapest is sought among the trials
    that miss a fifth less than the goal allows; where none within the limits does, among those that find as much as the
    best but for its standard error.

    Where nothing keeps to all of the goal, look-ups may be more, then the share of candidates too, unless the goal
    keeps to it. Of these trials the cheapest is taken, with nothing to spare. Where they too miss the recall, the trial
    of the best recall is taken: within the share, if the goal keeps to it and any trial does.

    Raises:
        HashingError: The slot width asked for is out of range, or no family is named.
    """
    tried = tuple(_trials(sample, goal, costs))
    if not tried:
        raise HashingError("nothing could be tried: no family was named")
    within_limits = [trial for trial in tried if not _misses(trial, goal)]
    if within_limits:
        return Tuning(goal, tried, _cheapest(_with_margin(within_limits, goal)), sample.size)
    more_lookups: set[Miss] = {"lookups"}
    more_of_both: set[Miss] = {"lookups"} if goal.keep_share else {"lookups", "share"}
    for allowed in (more_lookups, more_of_both):
        fitting = [trial for trial in tried if set(_misses(trial, goal)) <= allowed]
        if fitting:
            return Tuning(goal, tried, _cheapest(fitting), sample.size)
    within_share = [trial for trial in tried if goal.keep_share and "share" not in _misses(trial, goal)]
    return Tuning(goal, tried, max(within_share or tried, key=_recall_then_cost), sample.size)


def _with_margin(fitting: Sequence[Trial], goal: Goal) -> list[Trial]:
    """Return the trials that have misses to spare, or those that find as much as the best."""
    best = max(fitting, key=_recall_then_cost)
    return [trial for trial in fitting if trial.recall_lower_bound >= goal.survey_recall] or [
        trial for trial in fitting if trial.recall >= best.recall - best.recall_error
    ]


def _cheapest(trials: Sequence[Trial]) -> Trial:
    return min(trials, key=lambda trial: trial.cost_ms)


def _recall_then_cost(trial: Trial) -> tuple[float, float]:
    return trial.recall, -trial.cost_ms


def _trials(sample: Sample, goal: Goal, costs: CostModel) -> Iterator[Trial]:
    for name in goal.families:
        yield from TRIALS[name](sample, goal, costs)


def _misses(trial: Trial, goal: Goal) -> tuple[Miss, ...]:
    kept: dict[Miss, bool] = {
        "recall": trial.recall_lower_bound >= goal.recall,
        "lookups": trial.lookups <= goal.max_lookups,
        "share": trial.candidate_share <= goal.max_share,
    }
    return tuple(name for name, holds in kept.items() if not holds)
