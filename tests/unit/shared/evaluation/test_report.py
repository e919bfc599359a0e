"""Evaluation reports: their JSON is what it was before they were objects, and is read back as it was written."""

import json
from dataclasses import replace

from shared.evaluation.report import EvaluationReport, PredictedScores
from shared.state.outcomes import Rejection
from tests.support.evaluation_reports import a_query_set, a_report, a_run, a_setting


def test_a_report_is_read_back_as_it_was_written() -> None:
    predicted = PredictedScores(recall=0.9, candidate_share=0.2)
    report = a_report(
        [a_run("exact-cosine-all"), a_run("lsh-euclidean-labelled")],
        [a_setting(0, 0.5, tables=4, hashes=2), replace(a_setting(1, 0.6, tables=8), predicted=predicted)],
    )
    text = json.dumps(report.to_json())
    again = EvaluationReport.from_json(json.loads(text))
    assert again == report
    assert json.dumps(again.to_json()) == text


def test_the_fields_stand_in_their_order_and_none_is_null_that_does_not_apply() -> None:
    run = a_run("lsh-cosine-all").to_json()
    assert list(run) == [
        *("id", "search", "metric", "distractors", "p_at_k", "ap_at_k", "recall_at_k", "candidates"),
        *("candidate_fraction", "seen", "mean_distance", "mean_similarity", "without_copies", "macro", "interval"),
        *("per_class", "confusion", "latency_ms", "stages_ms", "index"),
    ]
    index = run["index"]
    assert index is not None
    assert list(index) == ["generation", "family", "tables", "hashes", "width", "probes", "budget_share"]
    assert run["interval"]["p_at_k"] == [0.0, 1.0]
    (copy,) = a_query_set().to_json()["copies"]
    assert list(copy) == [
        *("name", "digest", "label", "image", "image_label", "kind", "similarity", "mirrored", "distance")
    ]


def test_an_evaluation_from_before_copies_were_looked_for_stays_as_it_was() -> None:
    old = a_report(
        [a_run("exact-cosine-all", without_copies=None)], query_set=a_query_set(copies=None, unchecked=None)
    ).to_json()
    assert "without_copies" not in old["runs"][0]
    assert not {"copies", "unchecked"} & old["query_set"].keys()
    report = EvaluationReport.from_json(old)
    assert report.to_json() == old
    assert report.query_set.copied is None
    assert a_query_set().copied == 1


def test_an_outline_has_everything_but_what_is_large() -> None:
    report = a_report([a_run("exact-cosine-all")], [a_setting(0, 0.5, tables=4)])
    outline = report.outline()
    assert [run.id for run in outline.all_runs()] == ["exact-cosine-all"]
    assert len(outline.grid) == 1
    assert outline.runs[0].confusion == {}
    assert outline.query_set.copies is None
    assert outline.runs[0].per_class == report.runs[0].per_class


def test_files_that_are_no_queries_are_added_to_those_known() -> None:
    more = Rejection("b.txt", "no-label", "it is in no folder")
    report = a_report().with_rejected([more])
    assert [rejection.name for rejection in report.query_set.rejected] == ["a.txt", "b.txt"]
    assert report.to_json()["query_set"]["rejected"][1] == vars(more)
