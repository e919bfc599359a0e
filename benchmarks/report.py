"""What the index benchmark shows: a table, as text and as Markdown, a plot, and all measurements as JSON."""

import platform
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.ann_libraries import versions
from benchmarks.growth import growth_rows, number_text, scaling_rows
from benchmarks.machine import processor
from benchmarks.results import END_TO_END, Results
from benchmarks.runner import IndexResult, Point
from shared.tuning.report import TrialReport
from shared.usable_cores import usable_cores

MEASUREMENTS: dict[str, str] = {
    "indexed_without_index_per_second": "vectors indexed a second before there is an index",
    "survey_s": "s to survey them",
    "tuning_s": "s to tune the index",
    "fill_s": "s to fill it from the segments and check it",
    "predicted_recall": "recall@10 predicted",
    "inserted": "vectors then added to the index",
    "inserts_per_second_large": "of these indexed a second, in segments of 1,024",
    "inserts_per_second_small": "of these indexed a second, in segments of 32, as the embedder writes them",
    "written_per_second": "of these claimed and written a second, in segments of 32",
    "segments_before": "segments then",
    "merge_s": "s to merge them",
    "segments_after": "segments after that",
    "rebuild_s": "s to restore the index from the segments",
    "deletes_per_second": "vectors deleted a second, 1,000 by a task",
    "bulk_deletes_per_second": "16,384 by a task, a tenth of all at most",
    "buckets_bytes_per_image": "bytes an image in Valkey: its buckets",
    "valkey_bytes_per_image": "bytes an image in Valkey: everything",
    "aof_bytes_per_image": "bytes an image on disk: append-only file",
    "segments_bytes_per_image": "bytes an image on disk: segments",
    "objects_bytes_per_image": "bytes an image on disk: object store, all",
    "copy_bytes_per_image": "bytes an image on disk: the query service's copy",
    "query_memory_mb": "MB of the query service's processes beside pages of files, after the searches",
    "query_peak_mb": "MB that they had at most",
    "query_mapped_mb": "MB of pages of files in them, those that they share counted for each",
    "valkey-index_memory_mb": "MB of Valkey",
    "objects_memory_mb": "MB of the object store beside pages of files",
    "workers_peak_mb": "MB that indexer and maintenance worker took at most, beside pages of files",
    "first_copy_s": "s until a query service without a copy answers",
    "query_restart_s": "s until a restarted query service answers",
    "valkey_restart_s": "s until a restarted Valkey, and a search by it, answers",
    "searches_per_second_1": "searches a second, 1 client",
    "searches_per_second_4": "searches a second, 4 clients",
    "exact_ms": "ms of an exact search through the query service, mean",
    "times_faster": "times faster than FAISS Flat on one core, median",
    "times_faster_all_cores": "times faster than FAISS Flat on all cores, median",
}
"""What is shown of Artseek end to end beside its searches, in this order."""

_HEAD: tuple[str, ...] = (
    *("vectors", "index", "effort", "recall@10", "candidates", "look-ups", "median ms", "p95 ms", "queries/s"),
    *("build s", "bytes/vector"),
)
_TEXT_COLUMNS = 3
_ALL = "all"  # the effort of an exact scan, which has no choice


def describe_machine(more: dict[str, str]) -> dict[str, str]:
    """Return what measurements depend on: processor, cores, memory, versions; `more` is added."""
    return {
        "processor": processor(),
        "cores": str(usable_cores()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        **versions(),
        **more,
    }


def index_rows(results: Results) -> list[tuple[str, ...]]:
    """Return the table's rows, as wide as its head: for each dataset Artseek end to end, families, libraries."""
    rows: list[tuple[str, ...]] = []
    for name in results.datasets:
        for result in results.end_to_end:
            if result.dataset == name:
                cells = (*_quality_cells(result.point), *_time_cells(result.point))
                rows.append((name, END_TO_END, _chosen(result.chosen), *cells, "", ""))
        rows += [_index_row(index, results.target) for index in results.indexes if index.dataset == name]
    return rows


def _index_row(index: IndexResult, target: float) -> tuple[str, ...]:
    best = index.best_point(target)
    if best is None:
        return (index.dataset, index.index, "skipped", *[""] * (len(_HEAD) - _TEXT_COLUMNS))
    effort = _ALL if index.effort_name == _ALL else f"{index.effort_name} {best.effort}"
    size = "" if index.bytes_per_vector is None else f"{index.bytes_per_vector:,.0f}"
    cells = (*_quality_cells(best), *_time_cells(best))
    return (index.dataset, index.index, effort, *cells, f"{index.build_s:.1f}", size)


def measurement_rows(results: Results) -> list[tuple[str, ...]]:
    """Return the rows of the measurements end to end, a column for each dataset, the first of names."""
    return [
        (
            label,
            *(
                number_text(result.measurements[name]) if name in result.measurements else ""
                for result in results.end_to_end
            ),
        )
        for name, label in MEASUREMENTS.items()
        if any(name in result.measurements for result in results.end_to_end)
    ]


def skipped_lines(results: Results) -> list[str]:
    """Return a line for each reason why indexes were skipped: the indexes, their datasets, the reason."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for index in results.indexes:
        if index.skipped:
            reasons.setdefault(index.skipped, {}).setdefault(index.index, []).append(index.dataset)
    lines = []
    for reason, indexes in reasons.items():
        names = "; ".join(f"{index} ({', '.join(datasets)})" for index, datasets in indexes.items())
        lines.append(f"Skipped: {names}: {reason}")
    return lines


def head_lines(results: Results) -> list[str]:
    """Return the lines above the table: machine, versions, datasets."""
    lines = [", ".join(f"{name} {value}" for name, value in results.machine.items())]
    lines += [
        f"{name}: {info.count:,} vectors of {info.dim} dimensions, contrast {info.contrast:.2f}"
        f"{', ' + info.description if info.description else ''}"
        for name, info in results.datasets.items()
    ]
    lines.append(
        f"Shown is the effort that an index chose for a recall@10 of {results.target:g}, or else the fastest that "
        "reaches it; latency of one query at a time on one thread, queries a second on all cores. Candidates are "
        "vectors compared in full: FAISS LSH compares short codes of all vectors before."
    )
    return lines


def markdown(results: Results) -> str:
    """Return all of it as Markdown."""
    parts = ["\n\n".join(head_lines(results)), _markdown(_HEAD, index_rows(results), _TEXT_COLUMNS)]
    parts += [_markdown(head, body, 1) for head, *body in _further_tables(results)]
    return "\n\n".join([*parts, *skipped_lines(results)]) + "\n"


def show(results: Results, console: Console) -> None:
    """Print all of it, with lines and colours where the console has them."""
    for line in head_lines(results):
        console.print(line, highlight=False)
    _show_table(console, _HEAD, index_rows(results), _TEXT_COLUMNS)
    for head, *body in _further_tables(results):
        _show_table(console, head, body, 1)
    for line in skipped_lines(results):
        console.print(line, highlight=False)


def _show_table(console: Console, head: Sequence[str], body: Sequence[Sequence[str]], text_columns: int) -> None:
    """Print a table; with several columns of text, the first of them names a section."""
    if not body:
        return
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII, pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place < text_columns else "right", overflow="fold")
    section = None
    for row in body:
        if text_columns > 1 and section not in {None, row[0]}:
            table.add_section()
        section = row[0]
        table.add_row(*row, style="bold" if text_columns > 1 and row[1].startswith(END_TO_END) else None)
    console.print(table)


def _further_tables(results: Results) -> list[list[tuple[str, ...]]]:
    """Return the tables under the first, each with its head: the measurements end to end, and the growth."""
    tables = [growth_rows(results), scaling_rows(results)]
    if results.end_to_end:
        head = (END_TO_END, *(result.dataset for result in results.end_to_end))
        tables.insert(0, [head, *measurement_rows(results)])
    return [table for table in tables if table]


def plot(results: Results, path: Path) -> str:
    """Draw recall@10 against the share compared and against latency; returns why not, if it cannot be drawn."""
    try:
        matplotlib = import_module("matplotlib")
    except ImportError as error:
        return f"matplotlib is not installed ({error})"
    matplotlib.use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    measured = {index.dataset for index in results.indexes if index.points}
    names = [name for name in results.datasets if name in measured]
    if not names:
        return "no index was measured beside Artseek end to end"
    figure, axes = pyplot.subplots(
        len(names), 2, figsize=(13, 4.6 * len(names)), squeeze=False, layout="constrained", dpi=130
    )
    indexes = list(dict.fromkeys(index.index for index in results.indexes if index.points))
    ours = {index.index for index in results.indexes if index.ours}
    strong, pale = matplotlib.colormaps["Dark2"], matplotlib.colormaps["tab20"]
    colours = {name: (strong if name in ours else pale)(place) for place, name in enumerate(indexes)}
    for (left, right), name in zip(axes, names, strict=True):
        _draw_dataset(results, name, left, right, colours)
    figure.savefig(path)
    pyplot.close(figure)
    return ""


def _draw_dataset(results: Results, name: str, left: Any, right: Any, colours: dict[str, Any]) -> None:
    """Draw the curves of a dataset: recall by the share compared on the left, by latency on the right."""
    info = results.datasets[name]
    kind = "simulated" if info.simulated else "real"
    title = f"{info.count:,} {kind} vectors of {info.dim} dimensions, contrast {info.contrast:.2f}"
    for index in results.indexes:
        if index.dataset != name or not index.points:
            continue
        style = {"color": colours[index.index], "label": index.index, "marker": "o" if index.ours else ".",
                 "lw": 2.2 if index.ours else 1.1, "ls": "-" if index.ours else "--"}  # fmt: skip
        by_share = [
            (point.candidate_share * 100, point.recall) for point in index.points if point.candidate_share is not None
        ]
        if by_share:
            left.plot(*zip(*by_share, strict=True), **style)
        right.plot(*zip(*((point.median_ms, point.recall) for point in index.points), strict=True), **style)
    for result in results.end_to_end:
        if result.dataset == name and result.point.candidate_share is not None:
            star = {"marker": "*", "color": "black", "ms": 13, "ls": "", "label": END_TO_END, "zorder": 5}
            left.plot([result.point.candidate_share * 100], [result.point.recall], **star)
            right.plot([result.point.median_ms], [result.point.recall], **star)
    for axis, label in ((left, "vectors compared in full, %"), (right, "median latency of one query, ms")):
        axis.set(xscale="log", xlabel=label, ylabel="recall@10", ylim=(0.5, 1.01), title=title)
        axis.axhline(results.target, color="grey", lw=0.8, ls=":")
        axis.grid(visible=True, which="both", alpha=0.25)
    right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _chosen(trial: TrialReport) -> str:
    """Return what the tuner chose, such as ``voronoi 1 × 4096, probes 32``."""
    return f"{trial.family} {trial.tables} × {trial.cells or trial.hashes}, probes {trial.probes}"


def _quality_cells(point: Point) -> tuple[str, str, str]:
    return (
        f"{point.recall:.3f}",
        "" if point.candidate_share is None else f"{point.candidate_share:.2%}",
        "" if point.lookups is None else f"{point.lookups:.0f}",
    )


def _time_cells(point: Point) -> tuple[str, str, str]:
    return f"{point.median_ms:.2f}", f"{point.p95_ms:.2f}", f"{point.queries_per_second:,.0f}"


def _markdown(head: Sequence[str], body: Iterable[Sequence[str]], text_columns: int) -> str:
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "|".join("---" if place < text_columns else "---:" for place in range(len(head))) + "|")
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in body]
    return "\n".join(lines)
