"""What the pages show of evaluations: tables of classes and indexes, copies, and how two runs differ by query."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

import numpy as np
import pyarrow as pa

from services.web.languages import gettext, marked, ngettext, translated
from services.web.pages.formatting import count, figure, percent, share, written
from services.web.pages.vocabulary import field_name
from shared.evaluation import retrieval_metrics
from shared.evaluation.classes import read_classes
from shared.evaluation.report import EvaluationReport, PredictedScores, QueryCopy, SettingReport
from shared.evaluation.rows import QueryRow, query_rows
from shared.evaluation.run_scores import SCORE_NAMES, EvaluatedIndex, Interval, RunScores, ScoreName
from shared.hashing.parameters import PARAMETERS, ParameterName, ParametersJson
from shared.records.model import LABEL

Measure = Literal["recall_at_k", "p_at_k", "ap_at_k", "candidate_fraction"]
"""What the maps of a grid may show."""

_MOST_CLASSES = 40  # rows and columns of a confusion matrix
_MOST_MAPS = 12  # heat maps of one grid
NO_LABEL = marked("no label")
OTHERS = marked("other classes")


@dataclass(frozen=True)
class Cell:
    """A value of a table: as a number, as it is written, in words, and more lines of words."""

    value: float
    short: str
    text: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Cells by row and column; None where there is nothing to tell."""

    row_title: str
    column_title: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[Cell | None]]
    title: str = ""


def run_title(run: RunScores) -> str:
    """Return what a run is called."""
    search = gettext("exact") if run.search == "exact" else "LSH"
    among = gettext("all images") if run.distractors else gettext("labelled only")
    return f"{search}, {translated(run.metric)}, {among}"


def comparison_key(report: EvaluationReport) -> str:
    """Return a key that evaluations with comparable scores share: the same k, and the same kind of queries."""
    queries = report.query_set
    match queries.kind:
        case "sample":
            key = "sample"
        case "kept":
            key = f"kept-{queries.name}"
        case "folder":
            key = f"folder-{queries.digest[:12]}"
    return f"{key}-k{report.k}" + ("" if report.field == LABEL else f"-{report.field}")


def shares_class(first: str, second: str) -> bool:
    """Return whether two texts of classes name one that both have."""
    return not set(read_classes(first)).isdisjoint(read_classes(second))


def queries_title(report: EvaluationReport) -> str:
    """Return what a collection was evaluated by, in words."""
    queries = report.query_set
    match queries.kind:
        case "sample":
            title = gettext("a sample of the collection")
        case "kept":
            title = gettext("the kept queries %(name)s", name=queries.name)
        case "folder":
            title = gettext("a folder of queries (%(digest)s)", digest=queries.digest[:8])
    if report.field == LABEL:
        return title
    return gettext("%(queries)s, by %(field)s", queries=title, field=field_name(report.field))


def stages(report: EvaluationReport) -> list[str]:
    """Return the stages that searches went through, in their order."""
    return list(dict.fromkeys(stage for run in report.runs for stage in run.stages_ms if stage != "total"))


# Classes


def confusion_table(run: RunScores) -> Table:
    """Return how the hits of each class of queries are spread over classes, in shares of its hits.

    Beyond forty classes, those with the most queries are shown, and the others together.
    """
    by_size = sorted(run.per_class, key=lambda label: (-run.per_class[label].queries, label))
    rows = sorted(by_size[:_MOST_CLASSES])
    hits: Counter[str] = Counter()
    for label in rows:
        hits.update(run.confusion.get(label, {}))
    foreign = sorted((hit for hit in hits if hit and hit not in rows), key=lambda hit: (-hits[hit], hit))
    shown = foreign[: max(0, _MOST_CLASSES - len(rows))]
    columns = [*rows, *sorted(shown)]
    others = set(foreign) - set(shown)
    cells = []
    for label in rows:
        counts = run.confusion.get(label, {})
        total = sum(counts.values())
        line = [_confusion_cell(label, column, counts.get(column, 0), total) for column in columns]
        if others:
            line.append(_confusion_cell(label, translated(OTHERS), sum(counts.get(hit, 0) for hit in others), total))
        if "" in hits:
            line.append(_confusion_cell(label, translated(NO_LABEL), counts.get("", 0), total))
        cells.append(line)
    titles = [*columns, *([translated(OTHERS)] if others else []), *([translated(NO_LABEL)] if "" in hits else [])]
    return Table(gettext("query"), gettext("hit"), rows, titles, cells)


def _confusion_cell(label: str, hit: str, hits: int, total: int) -> Cell:
    text = ngettext(
        "%(hits)s of %(count)s hit (%(share)s)",
        "%(hits)s of %(count)s hits (%(share)s)",
        total,
        hits=count(hits),
        count=count(total),
        share=share(hits, total),
    )
    return Cell(hits / total if total else 0.0, count(hits), f"{label} → {hit}", (text,))


def class_history(reports: Sequence[EvaluationReport], run_id: str, name: ScoreName) -> Table:
    """Return a score of each class in each of some evaluations, given from the newest."""
    runs = [(report, run) for report in reversed(reports) if (run := report.run(run_id)) is not None]
    labels = sorted({label for _, run in runs for label in run.per_class})
    cells = [[_class_cell(report, run, label, name) for report, run in runs] for label in labels]
    return Table(
        gettext("class"), gettext("evaluation"), labels, [_short_time(report.created) for report, _ in runs], cells
    )


def _class_cell(report: EvaluationReport, run: RunScores, label: str, name: ScoreName) -> Cell | None:
    if label not in run.per_class:
        return None
    score = run.per_class[label].score(name)
    return Cell(score, figure(score), label, (report.created[:16],))


def _short_time(created: str) -> str:
    return f"{created[5:10]} {created[11:16]}"


# Indexes


@dataclass(frozen=True)
class ComparedRun:
    """A way to search whose scores are compared with those of others."""

    group: str
    name: str
    run: RunScores
    predicted: PredictedScores | None = None
    build_s: float | None = None
    buckets: int | None = None


def compared_runs(report: EvaluationReport, run: RunScores) -> Iterator[ComparedRun]:
    """Yield the exact scan, the live index and the settings of the grid, by a run's metric and among its images."""
    for other in report.runs:
        if _is_alike(other, run):
            if other.index is None:
                yield ComparedRun(gettext("exact scan"), gettext("exact scan"), other)
            else:
                yield ComparedRun(gettext("live index"), index_title(other.index), other)
    for setting in report.grid:
        for other in setting.runs:
            if _is_alike(other, run):
                yield ComparedRun(
                    gettext("grid, %(family)s", family=setting.index.family),
                    index_title(setting.index) + _space_title(setting),
                    other,
                    setting.predicted,
                    setting.build_s,
                    setting.buckets,
                )


def _is_alike(run: RunScores, other: RunScores) -> bool:
    return (run.metric, run.distractors) == (other.metric, other.distractors)


def _space_title(setting: SettingReport) -> str:
    return ", " + gettext("plain space") if setting.setting.space == "plain" else ""


def index_title(index: EvaluatedIndex) -> str:
    """Return what an index is made of, in words."""
    values: dict[ParameterName, float | None] = {
        "tables": index.tables,
        "hashes": index.hashes,
        "width": index.width,
        "cells": index.cells,
        "probes": index.probes,
    }
    parameters = [f"{translated(name)} {_number(value)}" for name, value in values.items() if value is not None]
    return ", ".join([index.family, *parameters])


def _number(value: float) -> str:
    return written(f"{value:.4g}")


MEASURES: dict[Measure, str] = {
    "recall_at_k": marked("recall"),
    "p_at_k": marked("precision"),
    "ap_at_k": marked("average precision"),
    "candidate_fraction": marked("share of the images that is ranked"),
}


@dataclass(frozen=True)
class _GridEntry:
    """A setting of a grid: the parameters that were asked for, and the scores of one of its runs."""

    given: ParametersJson
    run: RunScores


def grid_maps(report: EvaluationReport, run: RunScores, measure: Measure) -> list[Table]:
    """Return a measure over the two parameters of a grid that vary most, a table for each value of the others."""
    groups: dict[str, list[_GridEntry]] = {}
    for setting in report.grid:
        alike = next((other for other in setting.runs if _is_alike(other, run)), None)
        if alike is not None:
            title = setting.index.family + _space_title(setting)
            groups.setdefault(title, []).append(_GridEntry(setting.setting.given(), alike))
    maps = [table for title, entries in groups.items() for table in _maps_of_group(title, entries, measure)]
    return maps[:_MOST_MAPS]


def _maps_of_group(title: str, entries: Sequence[_GridEntry], measure: Measure) -> Iterator[Table]:
    """Yield the maps of the settings of one family in one space."""
    # What was not asked for, the tuner chose for each setting: it is no parameter of the grid.
    values = {
        parameter.name: sorted({entry.given[parameter.name] for entry in entries if parameter.name in entry.given})
        for parameter in PARAMETERS
    }
    varying = sorted((name for name in values if len(values[name]) > 1), key=lambda name: -len(values[name]))
    if len(varying) < 2:
        return
    across, down, *others = varying
    row_title, column_title = translated(down), translated(across)
    facets: dict[tuple[float, ...], dict[tuple[float, float], RunScores]] = {}
    for entry in entries:
        if all(name in entry.given for name in varying):
            fixed = tuple(entry.given[name] for name in others)
            facets.setdefault(fixed, {})[entry.given[down], entry.given[across]] = entry.run
    for fixed, runs in sorted(facets.items(), key=itemgetter(0)):
        words = [title, *(f"{translated(name)} {_number(value)}" for name, value in zip(others, fixed, strict=True))]
        cells = [
            [
                _grid_cell(
                    runs.get((y, x)), measure, f"{translated(down)} {_number(y)}, {translated(across)} {_number(x)}"
                )
                for x in values[across]
            ]
            for y in values[down]
        ]
        rows, columns = [_number(y) for y in values[down]], [_number(x) for x in values[across]]
        yield Table(row_title, column_title, rows, columns, cells, ", ".join(words))


def _grid_cell(run: RunScores | None, measure: Measure, text: str) -> Cell | None:
    if run is None:
        return None
    ranked = percent(run.candidate_fraction)
    more = (
        gettext(
            "recall %(recall)s, P %(p)s, AP %(ap)s",
            recall=figure(run.recall_at_k),
            p=figure(run.p_at_k),
            ap=figure(run.ap_at_k),
        ),
        gettext("ranks %(share)s of the images", share=ranked),
    )
    if measure == "candidate_fraction":
        return Cell(run.candidate_fraction, ranked, text, more)
    score = run.score(measure)
    return Cell(score, figure(score), text, more)


# Queries


def worst(rows: pa.Table, *, limit: int, offset: int) -> list[QueryRow]:
    """Return some queries of a run, those with the lowest AP@k, then P@k, first."""
    order = [("ap_at_k", "ascending"), ("p_at_k", "ascending"), ("query", "ascending")]
    return query_rows(rows.sort_by(order).slice(offset, limit))


def twins(rows: pa.Table) -> list[QueryRow]:
    """Return the queries that the collection holds."""
    return query_rows(rows.filter(rows["in_collection"]))


@dataclass(frozen=True)
class Leakage:
    """Which queries the collection has copies of: how many queries, how many copies, how many of them byte for byte.

    `copies` are those that the reader sees, the most alike first; `near` are those of them that are no twins.
    """

    queries: int
    total: int
    identical: int
    near: Sequence[QueryCopy]
    copies: Sequence[QueryCopy]
    unchecked: int


def leakage(report: EvaluationReport, shown: EvaluationReport) -> Leakage | None:
    """Return what is known of copies, listed are those in `shown`; None where they were not looked for."""
    queries = report.query_set
    if queries.copies is None:
        return None
    copies = sorted(shown.query_set.copies or (), key=lambda copy: -copy.similarity)
    return Leakage(
        queries=queries.copied or 0,
        total=len(queries.copies),
        identical=sum(copy.kind == "identical" for copy in queries.copies),
        near=[copy for copy in copies if copy.kind == "near"],
        copies=copies,
        unchecked=queries.unchecked or 0,
    )


@dataclass(frozen=True)
class Pair:
    """A query that two runs answered: the row of each, and by how much AP@k rose from the first to the second."""

    a: QueryRow
    b: QueryRow

    @property
    def rise(self) -> float:
        """By how much AP@k rose."""
        return self.b["ap_at_k"] - self.a["ap_at_k"]


@dataclass(frozen=True)
class RunComparison:
    """How two runs differ over the queries that both answered.

    `rises` has, for each score, by how much its mean rose, and the interval of that; `changed` the queries with other
    hits, those whose AP@k changed most first.
    """

    common: int
    only_a: int
    only_b: int
    better: int
    worse: int
    rises: Mapping[str, tuple[float, Interval]]
    changed: Sequence[Pair]


def compare(a: pa.Table, b: pa.Table) -> RunComparison:
    """Return how two runs, given by their rows, differ. A query is the same if image and label are."""
    first, second = ({(row["digest"], row["label"]): row for row in query_rows(table)} for table in (a, b))
    pairs = [Pair(row, second[key]) for key, row in first.items() if key in second]
    changed = sorted(
        (pair for pair in pairs if pair.a["hits"] != pair.b["hits"]),
        key=lambda pair: (-abs(pair.rise), pair.rise, pair.a["query"]),
    )
    rises: dict[str, tuple[float, Interval]] = {}
    if pairs:
        differences = np.array([[pair.b[name] - pair.a[name] for name in SCORE_NAMES] for pair in pairs])
        means = retrieval_metrics.bootstrap_means(differences, seed=[0])
        rises = {
            name: (float(differences[:, column].mean()), retrieval_metrics.interval(means[:, column]))
            for column, name in enumerate(SCORE_NAMES)
        }
    return RunComparison(
        common=len(pairs),
        only_a=len(first) - len(pairs),
        only_b=len(second) - len(pairs),
        better=sum(pair.rise > 0 for pair in pairs),
        worse=sum(pair.rise < 0 for pair in pairs),
        rises=rises,
        changed=changed,
    )
