"""The tuner: which family, with which parameters, reaches a recall at the least cost.

It tries families on a survey of the collection, predicts recall, candidates and look-ups of each, prices them by a
cost model, and chooses the cheapest that keeps to the goal. Nothing is written.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from shared.hashing import pstable, voronoi
from shared.hashing.mixing import MAX_TABLES
from shared.hashing.probing import MAX_PROBES
from shared.hashing.types import HashFamily, HashingError
from shared.tuning.cost_model import TYPICAL, CostModel
from shared.tuning.pstable_trials import try_pstable
from shared.tuning.report import Miss, TuningReport
from shared.tuning.sampling import Sample
from shared.tuning.trials import Trial
from shared.tuning.voronoi_trials import try_voronoi

_AMPLE = 0.8  # of the misses that the goal allows: what the collection's own images may miss
FAMILIES = (voronoi.FAMILY, pstable.FAMILY)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What an index is to be and to reach.

    Attributes:
        seed: Of all that is drawn.
        recall: Share of the nearest by the exact scan that the candidates are to hold.
        max_lookups: Buckets that a query may look into.
        max_share: Share of the collection that may be ranked.
        keep_share: Whether the share is kept to even where the recall is then missed, instead of the other way round.
        families: Which may be chosen.
        tables, cells, hashes, width, probes: Fixed parameters; None lets the tuner choose.
    """

    seed: int
    recall: float = 0.95
    max_lookups: int = 64
    max_share: float = 0.027
    keep_share: bool = False
    families: Sequence[str] = FAMILIES
    tables: int | None = None
    cells: int | None = None
    hashes: int | None = None
    width: float | None = None
    probes: int | None = None

    @property
    def ample_recall(self) -> float:
        """What the collection's own images are to find, so that queries from elsewhere find `recall`."""
        return 1 - _AMPLE * (1 - self.recall)

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            HashingError: A number is; the message names it.
        """
        for name, low, high in (
            ("seed", 0, None),
            ("max_lookups", 1, None),
            ("tables", 1, MAX_TABLES),
            ("cells", 1, voronoi.MAX_CELLS),
            ("hashes", 1, pstable.MAX_HASHES),
            ("probes", 1, MAX_PROBES),
        ):
            value = getattr(self, name)
            if value is not None and (value < low or (high is not None and value > high)):
                raise HashingError(f"{name} is {value}, expected {f'{low} to {high}' if high else f'at least {low}'}")
        for name in ("recall", "max_share"):
            if not 0 < getattr(self, name) <= 1:
                raise HashingError(f"{name} is {getattr(self, name)}, expected above 0 and at most 1")
        for family in self.families:
            if family not in FAMILIES:
                raise HashingError(f"hash family {family!r} is unknown, expected one of {', '.join(FAMILIES)}")


@dataclass(frozen=True, eq=False)
class Tuning:
    """What was tried, and what was chosen of it."""

    goal: Goal
    trials: tuple[Trial, ...]
    chosen: Trial
    size: int

    @property
    def family(self) -> HashFamily:
        """The family that was chosen; its parameters tell what is predicted of it."""
        return self.chosen.family.recording(
            size=self.size,
            recall_target=self.goal.recall,
            recall=self.chosen.recall,
            candidate_fraction=self.chosen.share,
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


def tune(
    sample: Sample,
    goal: Goal,
    *,
    costs: CostModel = TYPICAL,
    progress: Callable[[str], None] | None = None,
) -> Tuning:
    """Return what was tried on a survey and the cheapest that keeps to the goal: the same for the same arguments.

    Queries from elsewhere may miss more than the collection's own images do, so the cheapest is sought among those that
    miss a fifth less than the goal allows; where none within the limits does, among those that find as much as the best
    but for its standard error. Where nothing keeps to all of the goal, look-ups may be more, then the share (unless
    the goal keeps to it): of these the cheapest is taken, with nothing to spare. At last the best recall is taken
    (within the share, if the goal keeps to it and anything does).

    Raises:
        HashingError: The slot width asked for is out of range.
    """
    tried: list[Trial] = []
    for trial in _try_all(sample, goal, costs):
        tried.append(trial)
        if progress is not None:
            progress(f"{trial.family.family}: {len(tried)} trials")
    if not tried:
        raise HashingError("nothing could be tried: no family was named")
    more_lookups: set[Miss] = {"lookups"}
    more_of_both: set[Miss] = {"lookups"} if goal.keep_share else {"lookups", "share"}
    for allowed in (set[Miss](), more_lookups, more_of_both):
        fitting = [trial for trial in tried if not set(_misses(trial, goal)) - allowed]
        if fitting:
            return Tuning(goal, tuple(tried), _cheapest(fitting if allowed else _ample(fitting, goal)), sample.size)
    within = [trial for trial in tried if goal.keep_share and "share" not in _misses(trial, goal)] or tried
    return Tuning(goal, tuple(tried), max(within, key=_finding), sample.size)


def _ample(fitting: Sequence[Trial], goal: Goal) -> list[Trial]:
    """Return the trials that have misses to spare, or those that find as much as the best."""
    best = max(fitting, key=_finding)
    return [trial for trial in fitting if trial.sure_recall >= goal.ample_recall] or [
        trial for trial in fitting if trial.recall >= best.recall - best.error
    ]


def _cheapest(trials: Sequence[Trial]) -> Trial:
    return min(trials, key=lambda trial: trial.cost_ms)


def _finding(trial: Trial) -> tuple[float, float]:
    return trial.recall, -trial.cost_ms


def _try_all(sample: Sample, goal: Goal, costs: CostModel) -> Iterator[Trial]:
    for name in goal.families:
        if name == voronoi.FAMILY:
            yield from try_voronoi(
                sample,
                seed=goal.seed,
                tables=goal.tables,
                cells=goal.cells,
                probes=goal.probes,
                costs=costs,
            )
        else:
            yield from try_pstable(
                sample,
                seed=goal.seed,
                recall=goal.recall,
                tables=goal.tables,
                hashes=goal.hashes,
                width=goal.width,
                probes=goal.probes,
                budget_share=goal.max_share if goal.keep_share else None,
                costs=costs,
            )


def _misses(trial: Trial, goal: Goal) -> tuple[Miss, ...]:
    kept: dict[Miss, bool] = {
        "recall": trial.sure_recall >= goal.recall,
        "lookups": trial.lookups <= goal.max_lookups,
        "share": trial.share <= goal.max_share,
    }
    return tuple(name for name, holds in kept.items() if not holds)
