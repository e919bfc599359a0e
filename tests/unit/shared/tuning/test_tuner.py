"""The tuner: what it predicts against what is measured, what it chooses, and collections with little to tune to."""

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.hashing import FloatArray, HashingError, dumps
from shared.hashing.families.p_stable import PStableFamily
from shared.tuning import Goal, Sample, Tuning, sampling, survey, trials, tune
from shared.tuning.cost_model import TYPICAL, CostModel
from shared.tuning.families import voronoi
from shared.tuning.report import TuningReport
from shared.tuning.sampling import survey_vectors
from shared.tuning.trials import Trial
from tests.support.clusters import clustered, distances, measured

pytestmark = pytest.mark.slow  # it fits many indexes

FAMILIES = ("voronoi", "p-stable")
SMALL: dict[str, dict[str, Any]] = {
    "voronoi": {"families": ("voronoi",), "tables": 2, "cells": 120},
    "p-stable": {"families": ("p-stable",), "tables": 8, "hashes": 10, "width": 1.1},
}


@pytest.fixture(scope="module")
def vectors() -> FloatArray:
    return clustered(1, 3000, 48)


@pytest.fixture(scope="module")
def queries() -> FloatArray:
    return clustered(2, 250, 48)


@pytest.fixture(scope="module")
def surveyed(vectors: FloatArray) -> Sample:
    return survey_vectors(vectors, seed=1)


@pytest.fixture(scope="module")
def tuning(surveyed: Sample) -> Tuning:
    return tune(surveyed, Goal(seed=1, hashes=12))


@pytest.fixture(scope="module")
def small(surveyed: Sample) -> dict[str, Tuning]:
    """A tuning of each family with the parameters of `SMALL`."""
    return {kind: tune(surveyed, Goal(seed=0, **fixed)) for kind, fixed in SMALL.items()}


# What it predicts


def test_new_queries_find_what_was_predicted(tuning: Tuning, vectors: FloatArray, queries: FloatArray) -> None:
    recall, share = measured(tuning.family, vectors, queries)
    assert tuning.misses == ()
    assert tuning.chosen.recall_lower_bound >= 0.95
    assert tuning.chosen.recall == pytest.approx(recall, abs=0.02)
    assert tuning.chosen.candidate_share == pytest.approx(share, rel=0.12)
    parameters = tuning.family.parameters()
    assert parameters["recall"] == tuning.chosen.recall
    assert parameters["candidate_fraction"] == tuning.chosen.candidate_share
    assert (parameters["probes"], parameters["size"]) == (tuning.chosen.probes, 3000)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_sample_of_the_rows_predicts_what_all_of_them_give(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    many, queries = clustered(1, 60_000, 32), clustered(2, 80, 32)
    monkeypatch.setattr(sampling, "_ROWS_BYTES", 4 * 32 * 6000)

    def read() -> Any:
        return ((np.arange(start, start + 5000), many[start : start + 5000]) for start in range(0, 60_000, 5000))

    sample = survey(read, 60_000, seed=0)
    assert (len(sample.rows), sample.size) == (6000, 60_000)
    fixed: dict[str, Any] = {"tables": 1} if kind == "voronoi" else {"tables": 6, "hashes": 14, "width": 1.0}
    tuned = tune(sample, Goal(seed=0, families=(kind,), **fixed))
    recall, share = measured(tuned.family, many, queries)
    assert tuned.chosen.recall == pytest.approx(recall, abs=0.025)
    assert tuned.chosen.candidate_share == pytest.approx(share, rel=0.15)
    if kind == "voronoi":
        assert "recall" not in tuned.misses
        assert tuned.family.parameters()["cells"] <= 6000 // 8  # so that each has points to be made from


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_trial_predicts_what_its_number_of_probes_gives(
    kind: str, small: dict[str, Tuning], vectors: FloatArray, queries: FloatArray
) -> None:
    tuned = small[kind]
    assert [trial.probes for trial in tuned.trials] == sorted({trial.probes for trial in tuned.trials})
    for trial in tuned.trials[::4]:
        recall, share = measured(trial.family, vectors, queries, trial.probes)
        assert trial.recall == pytest.approx(recall, abs=max(0.015, 6 * trial.recall_error))
        assert trial.candidate_share == pytest.approx(share, rel=0.15)
        assert trial.lookups == trial.family.tables * trial.probes
    for name in ("recall", "candidate_share", "member_share", "cost_ms"):
        rising = [getattr(trial, name) for trial in tuned.trials]
        assert rising == sorted(rising)


@pytest.mark.parametrize("tables", [1, 4, 16])
def test_a_budget_keeps_what_was_seen_most_often_and_then_earliest(
    tables: int, surveyed: Sample, vectors: FloatArray, queries: FloatArray
) -> None:
    goal = Goal(seed=0, families=("p-stable",), tables=tables, hashes=10, width=1.3, max_share=0.03, keep_share=True)
    cut = [trial for trial in tune(surveyed, goal).trials if trial.budget_share is not None and trial.probes <= 32]
    assert cut
    for trial in (cut[0], cut[len(cut) // 2], cut[-1]):
        assert trial.candidate_share == trial.budget_share == 0.03
        assert trial.family.parameters()["budget_share"] == 0.03
        recall, share = measured(trial.family, vectors, queries, trial.probes, budget=round(0.03 * len(vectors)))
        assert share <= 0.03
        assert trial.recall == pytest.approx(recall, abs=0.06)


def test_a_budget_is_tried_where_the_share_is_to_be_kept_alone(surveyed: Sample) -> None:
    budgets = [
        {trial.budget_share for trial in tune(surveyed, Goal(seed=0, max_share=0.03, keep_share=keep, **fixed)).trials}
        for keep, fixed in itertools.product((False, True), (SMALL["p-stable"], SMALL["voronoi"]))
    ]
    assert budgets == [{None}, {None}, {None, 0.03}, {None}]


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_metric_is_that_of_the_survey(kind: str) -> None:
    lengths = np.random.default_rng(0).lognormal(0, 0.7, (2500, 1))
    unlike = np.asarray(clustered(1, 2500, 32) * lengths, dtype=np.float32)
    queries, collection = unlike[2300:], unlike[:2300]
    tuned = tune(survey_vectors(collection, seed=0, metric="euclidean"), Goal(seed=0, **SMALL[kind] | {"width": None}))
    recall, share = measured(tuned.family, collection, queries, metric="euclidean")
    assert tuned.chosen.recall == pytest.approx(recall, abs=0.03)
    assert tuned.chosen.candidate_share == pytest.approx(share, rel=0.25)


def test_more_probes_than_cells_are_counted_as_all_cells(surveyed: Sample) -> None:
    (trial,) = tune(surveyed, Goal(seed=0, families=("voronoi",), tables=2, cells=9, probes=500)).trials
    assert (trial.probes, trial.lookups, trial.recall) == (9, 18, 1.0)


def test_of_a_large_collection_more_rows_are_surveyed_and_more_cells_tried(
    vectors: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_ROWS_BYTES", 4 * vectors.shape[1] * 400)
    monkeypatch.setattr(voronoi, "_MAX_CELLS", 12)

    def tried() -> tuple[int, set[int]]:
        sample = survey_vectors(vectors, seed=0)
        found = tune(sample, Goal(seed=0, families=("voronoi",))).trials
        return len(sample.rows), {trial.family.parameters()["cells"] for trial in found}

    assert tried() == (400, {12})
    for module in (sampling, voronoi):
        monkeypatch.setattr(module, "MANY", len(vectors))
    assert tried() == (800, {12, 24})


def test_what_is_counted_is_bounded_however_many_tables_there_are(
    surveyed: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tune(surveyed, Goal(seed=0, probes=2, **SMALL["p-stable"])).chosen
    monkeypatch.setattr(trials, "_MAX_RANKS", 8 * 192 * 800)
    part = tune(surveyed, Goal(seed=0, probes=2, **SMALL["p-stable"])).chosen
    assert part.recall == whole.recall
    assert part.candidate_share != whole.candidate_share
    assert part.candidate_share == pytest.approx(whole.candidate_share, rel=0.15)


def test_trials_of_a_family_share_its_arrays(small: dict[str, Tuning]) -> None:
    for tuning in small.values():
        assert len({id(array) for trial in tuning.trials for array in trial.family.arrays().values()}) <= 4


# What it chooses


def test_no_trial_beats_one_of_the_pareto_curve(tuning: Tuning) -> None:
    curve = tuning.pareto()
    assert {trial.family.family for trial in tuning.trials} == set(FAMILIES)
    assert len(curve) > 5
    for point in curve:
        assert point in tuning.trials
        for trial in tuning.trials:
            assert not (trial.recall > point.recall and trial.cost_ms <= point.cost_ms)
            assert not (trial.recall >= point.recall and trial.cost_ms < point.cost_ms)
    for trial in tuning.trials:  # nothing is left out
        assert any(point.recall >= trial.recall and point.cost_ms <= trial.cost_ms for point in curve)
    assert [point.cost_ms for point in curve] == sorted(point.cost_ms for point in curve)
    assert [point.recall for point in curve] == sorted(point.recall for point in curve)


def test_the_cheapest_that_keeps_to_the_goal_is_chosen(tuning: Tuning) -> None:
    assert tuning.chosen is expected(tuning)
    assert tuning.chosen.lookups <= 64
    assert tuning.chosen.candidate_share <= 0.027


def expected(tuning: Tuning) -> Trial:
    """What the documentation says is chosen of the trials."""
    goal = tuning.goal

    def best(*, lookups: bool, share: bool) -> Trial | None:
        fitting = [
            trial
            for trial in tuning.trials
            if trial.recall_lower_bound >= goal.recall
            and (not lookups or trial.lookups <= goal.max_lookups)
            and (not share or trial.candidate_share <= goal.max_share)
        ]
        if not (lookups and share):  # what is beyond the limits already has nothing to spare
            return min(fitting, key=lambda trial: trial.cost_ms, default=None)
        # A fifth less than the misses that are allowed, if that can be had; if not, as few as can be.
        ample = [trial for trial in fitting if trial.recall_lower_bound >= 1 - 0.8 * (1 - goal.recall)]
        most = max(fitting, key=lambda trial: (trial.recall, -trial.cost_ms), default=None)
        alike = [trial for trial in fitting if most and trial.recall >= most.recall - most.recall_error]
        return min(ample or alike, key=lambda trial: trial.cost_ms, default=None)

    kept = best(lookups=True, share=True) or best(lookups=False, share=True)
    if kept is None and not goal.keep_share:
        kept = best(lookups=False, share=False)
    if kept is None:
        within = [trial for trial in tuning.trials if goal.keep_share and trial.candidate_share <= goal.max_share]
        kept = max(within or tuning.trials, key=lambda trial: (trial.recall, -trial.cost_ms))
    return kept


@pytest.mark.parametrize("keep_share", [False, True])
def test_what_cannot_be_had_is_given_up_in_order(small: dict[str, Tuning], keep_share: bool) -> None:  # noqa: FBT001
    tuning = small["p-stable"]
    shares = sorted(trial.candidate_share for trial in tuning.trials)
    misses = set()
    for recall, lookups, share in itertools.product(
        (0.3, 0.9, 0.99, 1.0), (1, 16, 64, 4096), (shares[0] / 2, shares[2], shares[6], 1.0)
    ):
        goal = Goal(
            seed=0, recall=recall, max_lookups=lookups, max_share=share, keep_share=keep_share, **SMALL["p-stable"]
        )
        tuned = tune_again(tuning, goal)
        assert tuned.chosen is expected(tuned)
        misses.add(tuned.misses)
        if keep_share and "share" in tuned.misses:
            assert share < shares[0]  # nothing is within
        if "recall" in tuned.misses and not (keep_share and share >= shares[0]):
            assert tuned.chosen.recall == max(trial.recall for trial in tuning.trials)
    assert {(), ("lookups",)} <= misses
    assert any("recall" in missed for missed in misses)
    assert any("share" in missed for missed in misses)


def tune_again(tuning: Tuning, goal: Goal) -> Tuning:
    """Choose anew among the same trials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.tuning.tuner._trials", lambda *_: iter(tuning.trials))
        return tune(replace(EMPTY, size=tuning.size), goal)


EMPTY = survey_vectors(np.ones((1, 1), dtype=np.float32), seed=0)


def test_recall_that_cannot_be_had_is_had_as_far_as_possible(surveyed: Sample) -> None:
    """Not a recall of next to nothing, for the sake of a share that counts less."""
    few = Goal(seed=0, recall=1.0, max_share=0.001, probes=1, **SMALL["p-stable"])
    tuned = tune(surveyed, few)
    assert tuned.chosen.recall == max(trial.recall for trial in tuned.trials)
    kept = tune(surveyed, replace(few, keep_share=True, probes=None))
    assert kept.chosen.candidate_share <= 0.001
    assert kept.misses[0] == "recall"


def test_a_fifth_of_the_neighbours_that_may_be_missed_is_left_to_spare(small: dict[str, Tuning]) -> None:
    """Where one within the limits finds as many; else the one that finds the most is taken."""
    assert Goal(seed=0, recall=0.9).survey_recall == pytest.approx(0.92)
    assert Goal(seed=0, recall=1.0).survey_recall == 1.0
    tuning = small["voronoi"]
    free = tune_again(tuning, Goal(seed=0, recall=0.9, max_share=1.0, max_lookups=4096, **SMALL["voronoi"]))
    cheaper = [trial for trial in tuning.trials if trial.cost_ms < free.chosen.cost_ms]
    assert free.chosen.recall_lower_bound >= 0.92 > max(trial.recall_lower_bound for trial in cheaper)
    share = 0.99 * min(trial.candidate_share for trial in tuning.trials if trial.recall_lower_bound >= 0.92)
    within = [trial for trial in tuning.trials if trial.candidate_share <= share]
    narrow = tune_again(tuning, Goal(seed=0, recall=0.9, max_share=share, max_lookups=4096, **SMALL["voronoi"]))
    if any(trial.recall_lower_bound >= 0.9 for trial in within):
        assert narrow.misses == ()
        best = max((trial for trial in within if trial.recall_lower_bound >= 0.9), key=lambda trial: trial.recall)
        assert narrow.chosen.recall >= best.recall - best.recall_error


def test_costs_decide(surveyed: Sample) -> None:
    goal = Goal(seed=0, families=("voronoi",), tables=1, max_share=1.0, max_lookups=4096)
    dear_lookups = tune(surveyed, goal, costs=replace(TYPICAL, lookup_ms=1.0, candidate_ms=0.0, member_ms=0.0)).chosen
    dear_candidates = tune(surveyed, goal, costs=replace(TYPICAL, lookup_ms=0.0, candidate_ms=1.0)).chosen
    assert dear_lookups.lookups < dear_candidates.lookups
    assert dear_lookups.candidate_share > dear_candidates.candidate_share
    assert min(dear_lookups.recall_lower_bound, dear_candidates.recall_lower_bound) >= 0.95


def test_costs_are_added_up() -> None:
    model = CostModel(base_ms=1, lookup_ms=10, member_ms=100, candidate_ms=1000, hash_ms=10_000)
    assert model.of(products=2e6, lookups=3, members=4, candidates=5) == 1 + 20_000 + 30 + 400 + 5000
    assert json.loads(json.dumps(model.to_json())) == {
        "base_ms": 1, "lookup_ms": 10, "member_ms": 100, "candidate_ms": 1000, "hash_ms": 10_000,
    }  # fmt: skip


def test_a_trial_costs_what_its_counts_cost(surveyed: Sample) -> None:
    model = CostModel(base_ms=1, lookup_ms=0.1, member_ms=0.01, candidate_ms=0.001, hash_ms=0.5)
    for trial in tune(surveyed, Goal(seed=0, **SMALL["voronoi"]), costs=model).trials:
        products = 2 * 120 * surveyed.space.size
        candidates, members = trial.candidate_share * 3000, trial.member_share * 3000
        assert trial.cost_ms == pytest.approx(
            1 + 0.5 * products / 1e6 + 0.1 * trial.lookups + 0.01 * members + 0.001 * candidates
        )
        assert candidates <= members <= 2 * candidates


def test_a_tuning_is_decided_by_sample_and_goal(surveyed: Sample, vectors: FloatArray) -> None:
    goal = Goal(seed=1, tables=2, cells=100, hashes=8)
    first, again = tune(surveyed, goal), tune(survey_vectors(vectors, seed=1), goal)
    assert report_of(first, surveyed) == report_of(again, surveyed)
    assert dumps(first.family) == dumps(again.family)
    other = tune(surveyed, replace(goal, seed=2))
    assert dumps(first.family) != dumps(other.family)


def test_a_recall_is_sure_with_95_percent_confidence(tuning: Tuning) -> None:
    for trial in tuning.trials:
        assert trial.recall_lower_bound == pytest.approx(trial.recall - 1.645 * trial.recall_error)


def report_of(tuning: Tuning, sample: Sample) -> TuningReport:
    return tuning.report(sample, costs=TYPICAL, survey_s=1.0, tuning_s=2.0)


def test_the_report_is_json(tuning: Tuning, surveyed: Sample) -> None:
    report = report_of(tuning, surveyed).to_json()
    assert json.loads(json.dumps(report)) == report
    assert report["chosen"] == tuning.chosen.report().to_json()
    assert (report["target"], report["max_lookups"], report["max_candidate_share"]) == (0.95, 64, 0.027)
    assert (report["size"], report["misses"]) == (3000, [])
    assert len(report["pareto"]) == len(tuning.pareto())
    assert set(report["families"]) == set(FAMILIES)
    for name, curve in report["families"].items():
        assert {point["family"] for point in curve} == {name}
        assert [point["recall"] for point in curve] == sorted(point["recall"] for point in curve)
        assert {"tables", "probes", "lookups", "budget_share", "recall_error", "candidate_share"} <= curve[0].keys()
        assert ("cells" if name == "voronoi" else "width") in curve[0]


def test_a_goal_without_families_is_refused(surveyed: Sample) -> None:
    with pytest.raises(HashingError, match="no family was named"):
        tune(surveyed, Goal(seed=0, families=()))
    with pytest.raises(HashingError, match="hash family 'hnsw' is unknown, expected one of voronoi, p-stable"):
        Goal(seed=0, families=("voronoi", "hnsw"))


# Little to tune to


def degenerate(name: str) -> FloatArray:
    rng = np.random.default_rng(0)
    samples = {
        "one": clustered(1, 1),
        "two": clustered(1, 2),
        "eleven": clustered(1, 11),
        "enough for axes": clustered(1, 64),
        "identical": np.repeat(clustered(1, 1), 300, axis=0),
        "two points": np.repeat(clustered(1, 2), 150, axis=0),
        "one component": rng.standard_normal((300, 1)),
        "two components": rng.standard_normal((300, 2)),
        "zeros": np.zeros((100, 20)),
        "some zeros": np.where(rng.random((300, 1)) < 0.3, 0, rng.standard_normal((300, 20))),
        "mirrored": np.concatenate([clustered(1, 100), -clustered(1, 100)]),
    }
    return np.asarray(samples[name], dtype=np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    "name",
    [
        "one", "two", "eleven", "enough for axes", "identical", "two points", "one component", "two components",
        "zeros", "some zeros", "mirrored",
    ],
)  # fmt: skip
def test_collections_with_little_to_tune_to_are_tuned(name: str, metric: Any) -> None:
    few = degenerate(name)
    goal = Goal(seed=0, hashes=6, tables=2)
    sample = survey_vectors(few, seed=0, metric=metric)
    tuned = tune(sample, goal)
    assert "recall" not in tuned.misses
    report = report_of(tuned, sample)
    assert TuningReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    keys = tuned.family.keys(few)
    shares = []
    for vector in few[:: max(1, len(few) // 20)]:
        probes = tuned.family.probes(vector)
        found = np.any([np.isin(keys[:, table], row) for table, row in enumerate(probes)], axis=0)
        away = distances(few, vector, metric)
        near = np.sort(away)[: min(len(few), 11)][-1]
        shares.append((away[found] <= near + 1e-6).sum() / min(len(few), 11))
    assert np.mean(np.minimum(shares, 1)) > 0.85


def test_a_hundred_copies_of_each_do_not_hide_the_others() -> None:
    copies = np.repeat(clustered(1, 30), 100, axis=0)
    tuned = tune(survey_vectors(copies, seed=0), Goal(seed=0, families=("voronoi",)))
    assert tuned.chosen.recall == 1.0
    keys = tuned.family.keys(copies)
    assert len(np.unique(keys[:, 0])) <= 30


def test_slots_of_no_width_are_refused(surveyed: Sample) -> None:
    with pytest.raises(HashingError, match="slot width 1e-30 is out of range"):
        PStableFamily.draw(surveyed.space, tables=1, hashes=2, width=1e-30, probes=1, seed=0)
