"""Charts as plain data: what static/js/charts.js draws of evaluations, each point with the words that explain it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from services.web.pages import evaluation_views
from services.web.pages.formatting import count, figure, milliseconds, percent, span

Chart = dict[str, Any]
_FIGURES = ("p_at_k", "ap_at_k", "recall_at_k")
_HOUR = timedelta(hours=1)
_MOST_LABELLED = 400  # cells of a heat map that carry their number


def names(k: int) -> dict[str, str]:
    """Return what the figures of an evaluation are called."""
    return {"p_at_k": f"P@{k}", "ap_at_k": f"AP@{k}", "recall_at_k": f"recall@{k}"}


def over_time(reports: Sequence[Mapping[str, Any]], run: str, links: Mapping[str, str]) -> Chart:
    """Return the figures of a run over evaluations of the same k, which lead to the address of each."""
    series = []
    for name, title in names(reports[0]["k"] if reports else 0).items():
        points = []
        for report in sorted(reports, key=lambda one: str(one["created"])):
            its = evaluation_views.run_of(report, run)
            if its is None:
                continue
            told = f"{figure(its[name])} ({span(its['interval'][name])})"
            text = [f"{title} {told}", _date(report["created"]), f"{count(report['queries'])} queries"]
            points.append(
                _point(its[name], its["interval"][name], text) | {"x": report["created"], "url": links[report["id"]]}
            )
        series.append({"name": title, "points": points})
    return {"kind": "lines", "series": series}


def live_recall(hours: Sequence[Mapping[str, Any]]) -> Chart:
    """Return the recall of live searches, hour by hour; an hour without any is a gap."""
    points: list[dict[str, Any]] = []
    for hour in hours:
        begun = datetime.fromisoformat(hour["hour"])
        if points and datetime.fromisoformat(points[-1]["x"]) + _HOUR < begun:
            points.append({"x": (begun - _HOUR).isoformat(), "y": None, "text": []})
        text = [f"recall {figure(hour['recall'])}", _date(hour["hour"]), f"{count(hour['sampled'])} searches"]
        points.append({"x": hour["hour"], "y": hour["recall"], "text": text})
    return {"kind": "lines", "series": [{"name": "recall of live searches", "points": points}]}


def by_run(report: Mapping[str, Any]) -> Chart:
    """Return the figures of all runs of an evaluation."""
    return _dots([evaluation_views.title(run) for run in report["runs"]], report["runs"], report["k"])


def by_class(run: Mapping[str, Any], k: int) -> Chart:
    """Return the figures of each class of a run."""
    return _dots(list(run["per_class"]), list(run["per_class"].values()), k)


def _dots(categories: Sequence[str], values: Sequence[Mapping[str, Any]], k: int) -> Chart:
    series = []
    for name, title in names(k).items():
        points = []
        for category, value in zip(categories, values, strict=True):
            interval = value["interval"].get(name)
            told = f"{title} {figure(value[name])}" + (f" ({span(interval)})" if interval else "")
            points.append(_point(value[name], interval, [told, category]))
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


def recall_against_candidates(report: Mapping[str, Any], run: Mapping[str, Any]) -> Chart:
    """Return recall against the share of images ranked, of the rivals of a run."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for rival in evaluation_views.rivals(report, run):
        its = rival.run
        text = [
            rival.name,
            f"recall {figure(its['recall_at_k'])} ({span(its['interval']['recall_at_k'])})",
            f"ranks {percent(its['candidate_fraction'])} of the images",
        ]
        if rival.predicted:
            text.append(
                f"predicted: {figure(rival.predicted['recall'])} for {percent(rival.predicted['candidate_share'])}"
            )
        point = _point(its["recall_at_k"], its["interval"]["recall_at_k"], text)
        groups.setdefault(rival.group, []).append(point | {"x": its["candidate_fraction"]})
    return {
        "kind": "scatter",
        "x_title": "share of the images that is ranked",
        "y_title": f"recall@{report['k']}",
        "series": [{"name": name, "points": points} for name, points in groups.items()],
    }


def latency(report: Mapping[str, Any]) -> Chart:
    """Return the median time of each stage of each run."""
    stages = evaluation_views.stages(report)
    series = []
    for stage in stages:
        points = []
        for run in report["runs"]:
            spent = run["stages_ms"].get(stage, {}).get("p50")
            points.append(
                {
                    "y": spent,
                    "text": [
                        f"{stage} {milliseconds(spent)}" if spent is not None else "",
                        evaluation_views.title(run),
                    ],
                }
            )
        series.append({"name": stage, "points": points})
    return {"kind": "stack", "categories": [evaluation_views.title(run) for run in report["runs"]], "series": series}


def _point(value: float, interval: Sequence[float] | None, text: list[str]) -> dict[str, Any]:
    bounds = {"low": interval[0], "high": interval[1]} if interval else {}
    return {"y": value, "text": text} | bounds


def _date(text: str) -> str:
    return datetime.fromisoformat(text).strftime("%d %b %Y %H:%M UTC").lstrip("0")
