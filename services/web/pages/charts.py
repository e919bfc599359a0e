"""Charts as plain data: what static/js/charts.js draws of evaluations, each point with the words that explain it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from services.web.languages import gettext, ngettext, translated
from services.web.pages import evaluation_views
from services.web.pages.formatting import count, day, figure, milliseconds, percent, span
from shared.evaluation.report import EvaluationReport
from shared.evaluation.run_scores import Interval, LatencySummary, MeanScores, RunScores, ScoreName

Chart = dict[str, Any]
_HOUR = timedelta(hours=1)
_MOST_LABELLED = 400  # cells of a heat map that carry their number
_NOT_TIMED = LatencySummary(p50=None, p95=None, queries=0)


def score_titles(k: int) -> dict[ScoreName, str]:
    """Return what the scores of an evaluation are called."""
    return {"p_at_k": f"P@{k}", "ap_at_k": f"AP@{k}", "recall_at_k": f"recall@{k}"}


def over_time(reports: Sequence[EvaluationReport], run_id: str, links: Mapping[str, str]) -> Chart:
    """Return the scores of a run over evaluations of the same k; each point leads to its evaluation."""
    series = []
    for name, title in score_titles(reports[0].k if reports else 0).items():
        points = []
        for report in sorted(reports, key=attrgetter("created")):
            run = report.run(run_id)
            if run is None:
                continue
            score, interval = run.score(name), run.interval[name]
            text = [
                f"{title} {figure(score)} ({span(interval)})",
                _date(report.created),
                ngettext("%(count)s query", "%(count)s queries", report.queries, count=count(report.queries)),
            ]
            points.append(_point(score, interval, text) | {"x": report.created, "url": links[report.id]})
        series.append({"name": title, "points": points})
    return {"kind": "lines", "series": series}


def live_recall(hours: Sequence[Mapping[str, Any]]) -> Chart:
    """Return the recall of live searches, hour by hour; an hour without any is a gap."""
    points: list[dict[str, Any]] = []
    for hour in hours:
        begun = datetime.fromisoformat(hour["hour"])
        if points and datetime.fromisoformat(points[-1]["x"]) + _HOUR < begun:
            points.append({"x": (begun - _HOUR).isoformat(), "y": None, "text": []})
        searches = ngettext("%(count)s search", "%(count)s searches", hour["sampled"], count=count(hour["sampled"]))
        text = [gettext("recall %(figure)s", figure=figure(hour["recall"])), _date(hour["hour"]), searches]
        points.append({"x": hour["hour"], "y": hour["recall"], "text": text})
    return {"kind": "lines", "series": [{"name": gettext("recall of live searches"), "points": points}]}


def by_run(report: EvaluationReport) -> Chart:
    """Return the scores of all runs of an evaluation."""
    return _dots([evaluation_views.run_title(run) for run in report.runs], report.runs, report.k)


def by_class(run: RunScores, k: int) -> Chart:
    """Return the scores of each class of a run."""
    return _dots(list(run.per_class), list(run.per_class.values()), k)


def _dots(categories: Sequence[str], scores: Sequence[MeanScores], k: int) -> Chart:
    series = []
    for name, title in score_titles(k).items():
        points = []
        for category, means in zip(categories, scores, strict=True):
            score, interval = means.score(name), means.interval.get(name)
            text = f"{title} {figure(score)}" + (f" ({span(interval)})" if interval else "")
            points.append(_point(score, interval, [text, category]))
        series.append({"name": title, "points": points})
    return {"kind": "dots", "categories": list(categories), "series": series}


def heat(table: evaluation_views.Table, *, highest: float | None = None) -> Chart:
    """Return a table as a heat map; `highest` is the value of the deepest colour, by default the highest there is."""
    values = [cell.value for row in table.cells for cell in row if cell is not None]
    labelled = len(table.rows) * len(table.columns) <= _MOST_LABELLED
    return {
        "kind": "heat",
        "rows": list(table.rows),
        "columns": list(table.columns),
        "row_title": table.row_title,
        "column_title": table.column_title,
        "highest": highest if highest is not None else max(values, default=1.0) or 1.0,
        "cells": [
            {
                "row": row,
                "column": column,
                "value": cell.value,
                "label": cell.short if labelled else "",
                "text": [cell.text, *cell.more],
            }
            for row, cells in enumerate(table.cells)
            for column, cell in enumerate(cells)
            if cell is not None
        ],
    }


def recall_against_candidates(report: EvaluationReport, run: RunScores) -> Chart:
    """Return recall against the share of images ranked, of the runs that a run is compared with."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for compared in evaluation_views.compared_runs(report, run):
        scores, interval = compared.run, compared.run.interval["recall_at_k"]
        text = [
            compared.name,
            gettext("recall %(figure)s", figure=f"{figure(scores.recall_at_k)} ({span(interval)})"),
            gettext("ranks %(share)s of the images", share=percent(scores.candidate_fraction)),
        ]
        if compared.predicted is not None:
            predicted = compared.predicted
            text.append(
                gettext(
                    "predicted: %(recall)s for %(share)s",
                    recall=figure(predicted.recall),
                    share=percent(predicted.candidate_share),
                )
            )
        point = _point(scores.recall_at_k, interval, text)
        groups.setdefault(compared.group, []).append(point | {"x": scores.candidate_fraction})
    return {
        "kind": "scatter",
        "x_title": gettext("share of the images that is ranked"),
        "y_title": f"recall@{report.k}",
        "series": [{"name": name, "points": points} for name, points in groups.items()],
    }


def latency(report: EvaluationReport) -> Chart:
    """Return the median time of each stage of each run."""
    titles = [evaluation_views.run_title(run) for run in report.runs]
    series = []
    for stage in evaluation_views.stages(report):
        points = []
        for run, title in zip(report.runs, titles, strict=True):
            spent = run.stages_ms.get(stage, _NOT_TIMED).p50
            words = f"{translated(stage)} {milliseconds(spent)}" if spent is not None else ""
            points.append({"y": spent, "text": [words, title]})
        series.append({"name": translated(stage), "stage": stage, "points": points})
    return {"kind": "stack", "categories": titles, "series": series}


def _point(value: float, interval: Interval | None, text: list[str]) -> dict[str, Any]:
    bounds = {"low": interval[0], "high": interval[1]} if interval else {}
    return {"y": value, "text": text} | bounds


def _date(text: str) -> str:
    time = datetime.fromisoformat(text).astimezone(UTC)
    return f"{day(time, short=True)} {time:%H:%M} UTC"
