"""Reports of the tuner: they come back from their JSON, which is flat, and are shown alike by API and command line."""

import json

from shared.schemas.index import index_answer, tuning_answer
from shared.tuning.cost_model import TYPICAL
from shared.tuning.report import IndexReport, MeasuredIndex, TrialReport, TuningReport

VORONOI = TrialReport(
    family="voronoi",
    tables=2,
    cells=64,
    probes=8,
    lookups=16,
    budget_share=None,
    recall=0.97,
    recall_error=0.002,
    candidate_share=0.02,
    cost_ms=0.5,
)
P_STABLE = TrialReport(
    family="p-stable",
    tables=16,
    hashes=12,
    width=0.75,
    probes=3,
    lookups=48,
    budget_share=0.05,
    recall=0.91,
    recall_error=0.01,
    candidate_share=0.05,
    cost_ms=0.9,
)
TUNING = TuningReport(
    target=0.95,
    max_lookups=64,
    max_candidate_share=0.027,
    size=300,
    chosen=VORONOI,
    misses=("share",),
    pareto=(VORONOI,),
    families={"voronoi": (VORONOI,), "p-stable": (P_STABLE,)},
    metric="euclidean",
    cost_model=TYPICAL,
    queries=200,
    survey_s=1.25,
    tuning_s=3.5,
)
INDEX = IndexReport(
    tuning=TUNING,
    measured=MeasuredIndex(recall=0.96, candidate_share=0.021, queries=200),
    generation=3,
    images=299,
    fill_s=0.5,
    built=1_700_000_000.5,
)


def test_a_trial_has_the_parameters_of_its_family_alone() -> None:
    assert VORONOI.to_json() == {
        "family": "voronoi",
        "tables": 2,
        "cells": 64,
        "probes": 8,
        "lookups": 16,
        "budget_share": None,
        "recall": 0.97,
        "recall_error": 0.002,
        "candidate_share": 0.02,
        "cost_ms": 0.5,
    }
    assert P_STABLE.to_json().keys() >= {"hashes", "width"}
    assert "cells" not in P_STABLE.to_json()


def test_reports_come_back_from_their_json() -> None:
    assert TuningReport.from_json(json.loads(json.dumps(TUNING.to_json()))) == TUNING
    assert IndexReport.from_json(json.loads(json.dumps(INDEX.to_json()))) == INDEX


def test_the_report_on_an_index_has_all_on_one_level() -> None:
    assert INDEX.to_json() == {
        "target": 0.95,
        "max_lookups": 64,
        "max_candidate_share": 0.027,
        "size": 300,
        "chosen": VORONOI.to_json(),
        "misses": ["share"],
        "pareto": [VORONOI.to_json()],
        "families": {"voronoi": [VORONOI.to_json()], "p-stable": [P_STABLE.to_json()]},
        "metric": "euclidean",
        "cost_model": TYPICAL.to_json(),
        "queries": 200,
        "survey_s": 1.25,
        "tuning_s": 3.5,
        "measured": {"recall": 0.96, "candidate_share": 0.021, "queries": 200},
        "generation": 3,
        "images": 299,
        "fill_s": 0.5,
        "built": 1_700_000_000.5,
    }


def test_what_is_shown_tells_the_time_as_text_and_not_how_long_it_took() -> None:
    shown = index_answer(INDEX)
    assert shown["built"] == "2023-11-14T22:13:20.500Z"
    assert (shown["images"], shown["generation"], shown["measured"]["recall"]) == (299, 3, 0.96)
    assert shown.keys() - tuning_answer(TUNING).keys() == {"generation", "measured", "built"}
    assert tuning_answer(TUNING)["images"] == 300
