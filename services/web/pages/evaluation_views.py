"""What the pages tell of evaluations: their runs, tables and rivals, and how two runs differ, query by query."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from services.web.pages.formatting import count, figure, percent, share
from shared.evaluation import retrieval_metrics

Report = Mapping[str, Any]
_FIGURES = ("p_at_k", "ap_at_k", "recall_at_k")
_PARAMETERS = ("tables", "hashes", "width", "cells", "probes")
_MOST_CLASSES = 40  # rows and columns of a confusion matrix
_MOST_MAPS = 12  # heat maps of one grid
NO_LABEL = "no label"
OTHERS = "other classes"


@dataclass(frozen=True)
class Cell:
    """A value of a table, how it is written, what it says in full, and more lines of that."""

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


def title(run: Mapping[str, Any]) -> str:
    """Return what a run is called."""
    found = "exact" if run["search"] == "exact" else "LSH"
    return f"{found}, {run['metric']}, {'all images' if run['distractors'] else 'labelled only'}"


def run_of(report: Report, run: str) -> dict[str, Any] | None:
    """Return the run with this id, of an evaluation or its grid; None if there is none."""
    for one in [*report["runs"], *(one for setting in report["grid"] for one in setting["runs"])]:
        if one["id"] == run:
            return dict(one)
    return None


def judged_by(report: Report) -> str:
    """Return a key that evaluations with comparable figures share: the same k, and the same kind of queries."""
    queries = report["query_set"]
    what = {"sample": "", "kept": f"-{queries['name']}"}.get(queries["kind"], f"-{queries['digest'][:12]}")
    return f"{queries['kind']}{what}-k{report['k']}"


def queries_title(report: Report) -> str:
    """Return what a collection was judged by, in words."""
    queries = report["query_set"]
    match queries["kind"]:
        case "sample":
            return "a sample of the collection"
        case "kept":
            return f"the kept queries {queries['name']}"
        case _:
            return f"a folder of queries ({queries['digest'][:8]})"


def stages(report: Report) -> list[str]:
    """Return the stages that searches went through, in their order."""
    return list(dict.fromkeys(stage for run in report["runs"] for stage in run["stages_ms"] if stage != "total"))


# Classes


def confusion(run: Mapping[str, Any], per_class: Mapping[str, Any]) -> Table:
    """Return how the hits of each class of queries are spread over classes, in shares of its hits.

    Beyond forty classes, those with the most queries are shown, and the others together.
    """
    known = sorted(per_class, key=lambda label: (-per_class[label]["queries"], label))[:_MOST_CLASSES]
    rows = sorted(known)
    met: dict[str, int] = {}
    for label in rows:
        for hit, number in run["confusion"].get(label, {}).items():
            met[hit] = met.get(hit, 0) + number
    foreign = sorted((hit for hit in met if hit and hit not in rows), key=lambda hit: (-met[hit], hit))
    shown = foreign[: max(0, _MOST_CLASSES - len(rows))]
    columns = [*rows, *sorted(shown)]
    rest = set(foreign) - set(shown)
    keys = [*columns, *([OTHERS] if rest else []), *([""] if "" in met else [])]
    cells = []
    for label in rows:
        counts = run["confusion"].get(label, {})
        whole = sum(counts.values())
        line = []
        for place, key in enumerate(keys):
            together = rest and place == len(columns)
            number = sum(counts.get(one, 0) for one in rest) if together else counts.get(key, 0)
            said = f"{count(number)} of {count(whole)} hits ({share(number, whole)})"
            line.append(Cell(number / whole if whole else 0.0, count(number), f"{label} → {key or NO_LABEL}", (said,)))
        cells.append(line)
    return Table("query", "hit", rows, [key or NO_LABEL for key in keys], cells)


def class_history(reports: Sequence[Report], run: str, name: str) -> Table:
    """Return a figure of each class in each of some evaluations, given from the newest."""
    there = [(report, its) for report in reversed(reports) if (its := run_of(report, run)) is not None]
    labels = sorted({label for _, its in there for label in its["per_class"]})
    cells = [
        [
            Cell(its["per_class"][label][name], figure(its["per_class"][label][name]), label, (report["created"][:16],))
            if label in its["per_class"]
            else None
            for report, its in there
        ]
        for label in labels
    ]
    return Table("class", "evaluation", labels, [_short_time(report["created"]) for report, _ in there], cells)


def _short_time(created: str) -> str:
    return f"{created[5:10]} {created[11:16]}"


# Indexes


@dataclass(frozen=True)
class Rival:
    """A way to search, and the figures of it that are compared with those of others."""

    group: str
    name: str
    run: Mapping[str, Any]
    predicted: Mapping[str, float] | None = None
    build_s: float | None = None
    buckets: int | None = None


def rivals(report: Report, run: Mapping[str, Any]) -> Iterator[Rival]:
    """Yield the exact scan, the live index and the settings of the grid, by a run's metric and among its images."""
    for one in report["runs"]:
        if _alike(one, run):
            exact = one["index"] is None
            group, name = ("exact scan", "exact scan") if exact else ("live index", index_title(one["index"]))
            yield Rival(group, name, one)
    for setting in report["grid"]:
        for one in setting["runs"]:
            if _alike(one, run):
                yield Rival(
                    f"grid, {setting['index']['family']}",
                    index_title(setting["index"]) + _space(setting),
                    one,
                    setting["predicted"],
                    setting["build_s"],
                    setting["buckets"],
                )


def _alike(one: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    return (one["metric"], one["distractors"]) == (run["metric"], run["distractors"])


def _space(setting: Mapping[str, Any]) -> str:
    return ", plain space" if setting["setting"].get("space") == "plain" else ""


def index_title(index: Mapping[str, Any]) -> str:
    """Return what an index is made of, in words."""
    parts = [f"{name} {_number(index[name])}" for name in _PARAMETERS if index.get(name) is not None]
    return ", ".join([index["family"], *parts])


def _number(value: float) -> str:
    return f"{value:.4g}"


MEASURES = {
    "recall_at_k": "recall",
    "p_at_k": "precision",
    "ap_at_k": "average precision",
    "candidate_fraction": "share of the images that is ranked",
}


def grid_maps(report: Report, run: Mapping[str, Any], measure: str) -> list[Table]:
    """Return a measure over the two parameters of a grid that vary most, a table for each value of the others."""
    groups: dict[tuple[str, str], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for setting in report["grid"]:
        its = next((one for one in setting["runs"] if _alike(one, run)), None)
        if its is not None:
            groups.setdefault((setting["index"]["family"], _space(setting)), []).append((setting["setting"], its))
    found: list[Table] = []
    for (family, space), entries in groups.items():
        # What was not asked for, the tuner chose for each setting: it is no parameter of the grid.
        kinds = {name: sorted({asked[name] for asked, _ in entries if asked.get(name)}) for name in _PARAMETERS}
        varying = sorted((name for name in _PARAMETERS if len(kinds[name]) > 1), key=lambda name: -len(kinds[name]))
        if len(varying) < 2:
            continue
        across, down, *others = varying
        facets: dict[tuple[float, ...], dict[tuple[float, float], Mapping[str, Any]]] = {}
        for asked, its in entries:
            if all(asked.get(name) for name in varying):
                facets.setdefault(tuple(asked[name] for name in others), {})[asked[down], asked[across]] = its
        for fixed, values in sorted(facets.items()):
            words = [family + space, *(f"{name} {_number(value)}" for name, value in zip(others, fixed, strict=True))]
            cells = [
                [
                    _grid_cell(values.get((y, x)), measure, f"{down} {_number(y)}, {across} {_number(x)}")
                    for x in kinds[across]
                ]
                for y in kinds[down]
            ]
            rows, columns = [_number(y) for y in kinds[down]], [_number(x) for x in kinds[across]]
            found.append(Table(down, across, rows, columns, cells, ", ".join(words)))
    return found[:_MOST_MAPS]


def _grid_cell(run: Mapping[str, Any] | None, measure: str, text: str) -> Cell | None:
    if run is None:
        return None
    value = run[measure]
    short = percent(value) if measure == "candidate_fraction" else figure(value)
    more = (
        f"recall {figure(run['recall_at_k'])}, P {figure(run['p_at_k'])}, AP {figure(run['ap_at_k'])}",
        f"ranks {percent(run['candidate_fraction'])} of the images",
    )
    return Cell(value, short, text, more)


# Queries


def worst(rows: pa.Table, *, limit: int, offset: int) -> list[dict[str, Any]]:
    """Return some queries of a run, those with the lowest AP@k, then P@k, first."""
    order = [("ap_at_k", "ascending"), ("p_at_k", "ascending"), ("query", "ascending")]
    return [dict(row) for row in rows.sort_by(order).slice(offset, limit).to_pylist()]


def twins(rows: pa.Table) -> list[dict[str, Any]]:
    """Return the queries that the collection holds."""
    return [dict(row) for row in rows.filter(rows["in_collection"]).to_pylist()]


@dataclass(frozen=True)
class Leakage:
    """Which queries the collection has copies of: how many queries, how many of them byte for byte, and the copies.

    `near` are the copies that are no twins, the likest first.
    """

    queries: int
    identical: int
    near: Sequence[Mapping[str, Any]]
    copies: Sequence[Mapping[str, Any]]
    unchecked: int


def leakage(report: Report) -> Leakage | None:
    """Return what is known of copies; None for an evaluation from before they were looked for."""
    queries = report["query_set"]
    if "copies" not in queries:
        return None
    copies = sorted(queries["copies"], key=lambda one: -one["similarity"])
    return Leakage(
        queries=len({one["digest"] for one in copies}),
        identical=sum(one["kind"] == "identical" for one in copies),
        near=[one for one in copies if one["kind"] == "near"],
        copies=copies,
        unchecked=queries["unchecked"],
    )


@dataclass(frozen=True)
class Pair:
    """A query that two runs answered: the row of each, and by how much AP@k rose from the first to the second."""

    a: Mapping[str, Any]
    b: Mapping[str, Any]

    @property
    def rise(self) -> float:
        """By how much AP@k rose."""
        return float(self.b["ap_at_k"] - self.a["ap_at_k"])


@dataclass(frozen=True)
class Comparison:
    """How two runs differ over the queries that both answered.

    `rises` has, for each figure, by how much its mean rose, and the interval of that; `changed` the queries with other
    hits, those whose AP@k changed most first.
    """

    common: int
    only_a: int
    only_b: int
    better: int
    worse: int
    rises: Mapping[str, tuple[float, tuple[float, float]]]
    changed: Sequence[Pair]


def compare(a: pa.Table, b: pa.Table) -> Comparison:
    """Return how two runs, given by their rows, differ. A query is the same if image and label are."""
    first, second = ({(row["digest"], row["label"]): row for row in table.to_pylist()} for table in (a, b))
    pairs = [Pair(row, second[key]) for key, row in first.items() if key in second]
    changed = sorted(
        (pair for pair in pairs if pair.a["hits"] != pair.b["hits"]),
        key=lambda pair: (-abs(pair.rise), pair.rise, pair.a["query"]),
    )
    rises: dict[str, tuple[float, tuple[float, float]]] = {}
    if pairs:
        each = np.array([[pair.b[name] - pair.a[name] for name in _FIGURES] for pair in pairs])
        drawn = retrieval_metrics.bootstrap_means(each, seed=[0])
        rises = {
            name: (float(each[:, place].mean()), retrieval_metrics.interval(drawn[:, place]))
            for place, name in enumerate(_FIGURES)
        }
    return Comparison(
        common=len(pairs),
        only_a=len(first) - len(pairs),
        only_b=len(second) - len(pairs),
        better=sum(pair.rise > 0 for pair in pairs),
        worse=sum(pair.rise < 0 for pair in pairs),
        rises=rises,
        changed=changed,
    )
