"""What the index benchmark shows: one table, as text and as Markdown, one plot, and the figures as JSON."""

import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.ann_libraries import versions
from benchmarks.end_to_end import Whole
from benchmarks.runner import Measured
from shared.tuning.report import TrialAnswer

FIGURES: dict[str, str] = {
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
    "deletes_per_second": "vectors deleted a second",
    "buckets_bytes_per_image": "bytes an image in Valkey: its buckets",
    "valkey_bytes_per_image": "bytes an image in Valkey: everything",
    "aof_bytes_per_image": "bytes an image on disk: append-only file",
    "segments_bytes_per_image": "bytes an image on disk: segments",
    "objects_bytes_per_image": "bytes an image on disk: object store, all",
    "copy_bytes_per_image": "bytes an image on disk: the query service's copy",
    "query_memory_mb": "MB of the query process beside mapped files (RssAnon)",
    "first_copy_s": "s until a query service without a copy answers",
    "query_restart_s": "s until a restarted query service answers",
    "valkey_restart_s": "s until a restarted Valkey, and a search by it, answers",
    "searches_per_second_1": "searches a second, 1 client",
    "searches_per_second_4": "searches a second, 4 clients",
    "exact_ms": "ms of an exact search through the query service, mean",
    "times_faster": "times faster than FAISS Flat on one core, median",
    "times_faster_all_cores": "times faster than FAISS Flat on all cores, median",
}
"""What is shown of the whole path beside its searches, in this order."""

_HEAD: tuple[str, ...] = (
    *("vectors", "index", "effort", "recall@10", "candidates", "look-ups", "median ms", "p95 ms", "queries/s"),
    *("build s", "bytes/vector"),
)
_TEXT_COLUMNS = 3
WHOLE = "Artseek, whole path"


@dataclass(frozen=True)
class Results:
    """All that one run measured."""

    machine: dict[str, str]
    target: float
    sets: dict[str, dict[str, Any]]
    """The sets of vectors by their names: `count`, `dim`, `contrast` and how they came about."""
    measured: list[Measured] = field(default_factory=list)
    whole: list[Whole] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what `save` wrote."""
        value = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            value["machine"],
            value["target"],
            value["sets"],
            [Measured.from_json(one) for one in value["measured"]],
            [Whole.from_json(one) for one in value["whole"]],
        )


def machine(more: dict[str, str]) -> dict[str, str]:
    """Return what the figures depend on: processor, cores, memory, versions; `more` is added."""
    models = [
        line.partition(":")[2].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith(("model name", "Hardware", "CPU part"))
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": str(cores),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        **versions(),
        **more,
    }


def exponent(shares: Sequence[tuple[int, float]]) -> float | None:
    """Return b of the least-squares fit share = a · n^b on logarithms; None for fewer than two sizes.

    Args:
        shares: Numbers of vectors, and the share of them that is compared, above 0.
    """
    if len({count for count, _ in shares}) < 2:
        return None
    counts, parts = (np.log(np.array(values, dtype=np.float64)) for values in zip(*shares, strict=True))
    return float(np.polyfit(counts, parts, 1)[0])


def exponents(results: Results) -> dict[str, tuple[dict[int, float], float | None]]:
    """Return, for each of our indexes on simulated vectors, the shares by size at equal recall, and the exponent.

    A share is read off an index's curve at the target; the whole path has no curve, so it counts as it was tuned.
    """
    grown = {name for name, about in results.sets.items() if about.get("simulated")}
    found: dict[str, list[tuple[int, float]]] = {}
    for one in results.measured:
        share = one.share_at(results.target)
        if one.ours and one.vectors in grown and share:
            found.setdefault(one.index, []).append((one.count, share))
    for whole in results.whole:
        if whole.vectors in grown and whole.point.share:
            found.setdefault(f"{WHOLE}, as tuned", []).append((whole.count, whole.point.share))
    return {name: (dict(shares), exponent(shares)) for name, shares in found.items()}


def rows(results: Results) -> list[tuple[str, ...]]:
    """Return the table's rows, as wide as its head: for each set of vectors whole path, families, rivals."""
    made: list[tuple[str, ...]] = []
    for name in results.sets:
        for whole in results.whole:
            if whole.vectors == name:
                point = whole.point
                cells = _cells(point.recall, point.share, point.lookups)
                made.append((name, WHOLE, _chosen(whole.index), *cells, *_times(point), "", ""))
        for one in results.measured:
            if one.vectors != name:
                continue
            best = one.best(results.target)
            if best is None:
                made.append((name, one.index, "left out", *[""] * (len(_HEAD) - _TEXT_COLUMNS)))
                continue
            effort = f"{one.effort} {best.effort}" if one.effort != "all" else "all"
            size = "" if one.bytes_per_vector is None else f"{one.bytes_per_vector:,.0f}"
            cells = _cells(best.recall, best.share, best.lookups)
            made.append((name, one.index, effort, *cells, *_times(best), f"{one.build_s:.1f}", size))
    return made


def facts(results: Results) -> list[tuple[str, ...]]:
    """Return the rows of the whole path's figures, a column for each set of vectors, the first of names."""
    return [
        (label, *(_number(whole.figures[name]) if name in whole.figures else "" for whole in results.whole))
        for name, label in FIGURES.items()
        if any(name in whole.figures for whole in results.whole)
    ]


def growth(results: Results) -> list[tuple[str, ...]]:
    """Return the rows of the shares at equal recall: an index, its shares by size, the exponent."""
    found = exponents(results)
    counts = sorted({count for shares, _ in found.values() for count in shares})
    made: list[tuple[str, ...]] = [("share at equal recall", *(f"{count:,}" for count in counts), "exponent")]
    for name, (shares, slope) in found.items():
        cells = [f"{shares[count]:.2%}" if count in shares else "" for count in counts]
        made.append((name, *cells, "" if slope is None else f"{slope:+.2f}"))
    return made if counts else []


def left_out(results: Results) -> list[str]:
    """Return a line for each reason why indexes were left out: which ones, of which sets of vectors, why."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for one in results.measured:
        if one.left_out:
            reasons.setdefault(one.left_out, {}).setdefault(one.index, []).append(one.vectors)
    lines = []
    for reason, indexes in reasons.items():
        which = "; ".join(f"{index} ({', '.join(names)})" for index, names in indexes.items())
        lines.append(f"Left out: {which}: {reason}")
    return lines


def describe(results: Results) -> list[str]:
    """Return the lines above the table: machine, versions, vectors."""
    lines = [", ".join(f"{name} {value}" for name, value in results.machine.items())]
    lines += [
        f"{name}: {about['count']:,} vectors of {about['dim']} dimensions, contrast {about['contrast']:.2f}"
        f"{', ' + about['about'] if about.get('about') else ''}"
        for name, about in results.sets.items()
    ]
    lines.append(
        f"Shown is the effort that an index chose for a recall@10 of {results.target:g}, or else the fastest that "
        "reaches it; latency of one query at a time on one thread, queries a second on all cores. Candidates are "
        "vectors compared in full: FAISS LSH compares short codes of all vectors before."
    )
    return lines


def markdown(results: Results) -> str:
    """Return all of it as Markdown."""
    parts = ["\n\n".join(describe(results)), _markdown(_HEAD, rows(results), _TEXT_COLUMNS)]
    for head, *body in (_facts_with_head(results), growth(results)) if results.whole else (growth(results),):
        parts.append(_markdown(head, body, 1))
    return "\n\n".join([*parts, *left_out(results)]) + "\n"


def show(results: Results, console: Console) -> None:
    """Print all of it, with lines and colours where the console has them."""
    for line in describe(results):
        console.print(line, highlight=False)
    tables = [(_HEAD, rows(results), _TEXT_COLUMNS)]
    tables += [(head, body, 1) for head, *body in (_facts_with_head(results), growth(results))]
    for head, body, text in tables:
        table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII, pad_edge=False)
        for place, name in enumerate(head):
            table.add_column(name, justify="left" if place < text else "right", overflow="fold")
        before = None
        for row in body:
            if text > 1 and before not in {None, row[0]}:
                table.add_section()
            before = row[0]
            style = "bold" if text > 1 and row[1].startswith(WHOLE) else None
            table.add_row(*row, style=style)
        if body:
            console.print(table)
    for line in left_out(results):
        console.print(line, highlight=False)


def plot(results: Results, path: Path) -> str:
    """Draw recall@10 against the share compared and against latency; returns why not, if matplotlib is missing."""
    try:
        matplotlib = import_module("matplotlib")
    except ImportError as error:
        return f"matplotlib is not installed ({error})"
    matplotlib.use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    names = [name for name in results.sets if any(one.vectors == name and one.points for one in results.measured)]
    figure, axes = pyplot.subplots(
        len(names), 2, figsize=(13, 4.6 * len(names)), squeeze=False, layout="constrained", dpi=130
    )
    indexes = list(dict.fromkeys(one.index for one in results.measured if one.points))
    ours = {one.index for one in results.measured if one.ours}
    strong, pale = matplotlib.colormaps["Dark2"], matplotlib.colormaps["tab20"]
    colours = {name: (strong if name in ours else pale)(place) for place, name in enumerate(indexes)}
    for (left, right), name in zip(axes, names, strict=True):
        about = results.sets[name]
        kind = "simulated" if about.get("simulated") else "real"
        title = f"{about['count']:,} {kind} vectors of {about['dim']} dimensions, contrast {about['contrast']:.2f}"
        for one in results.measured:
            if one.vectors != name or not one.points:
                continue
            style = {"color": colours[one.index], "label": one.index, "marker": "o" if one.ours else ".",
                     "lw": 2.2 if one.ours else 1.1, "ls": "-" if one.ours else "--"}  # fmt: skip
            shared = [(point.share * 100, point.recall) for point in one.points if point.share is not None]
            if shared:
                left.plot(*zip(*shared, strict=True), **style)
            right.plot(*zip(*((point.median_ms, point.recall) for point in one.points), strict=True), **style)
        for whole in results.whole:
            if whole.vectors == name and whole.point.share is not None:
                star = {"marker": "*", "color": "black", "ms": 13, "ls": "", "label": WHOLE, "zorder": 5}
                left.plot([whole.point.share * 100], [whole.point.recall], **star)
                right.plot([whole.point.median_ms], [whole.point.recall], **star)
        for axis, label in ((left, "vectors compared in full, %"), (right, "median latency of one query, ms")):
            axis.set(xscale="log", xlabel=label, ylabel="recall@10", ylim=(0.5, 1.01), title=title)
            axis.axhline(results.target, color="grey", lw=0.8, ls=":")
            axis.grid(visible=True, which="both", alpha=0.25)
        right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path)
    pyplot.close(figure)
    return ""


def _facts_with_head(results: Results) -> list[tuple[str, ...]]:
    return [(WHOLE, *(whole.vectors for whole in results.whole)), *facts(results)] if results.whole else [("",)]


def _chosen(index: TrialAnswer) -> str:
    """Return what the tuner chose, such as ``voronoi 1 × 4096, probes 32``."""
    return (
        f"{index['family']} {index['tables']} × {index.get('cells') or index.get('hashes')}, probes {index['probes']}"
    )


def _cells(recall: float, share: float | None, lookups: float | None) -> tuple[str, str, str]:
    return (
        f"{recall:.3f}",
        "" if share is None else f"{share:.2%}",
        "" if lookups is None else f"{lookups:.0f}",
    )


def _times(point: Any) -> tuple[str, str, str]:
    return f"{point.median_ms:.2f}", f"{point.p95_ms:.2f}", f"{point.per_second:,.0f}"


def _number(value: float) -> str:
    """Return a number to three digits, without an exponent."""
    if not math.isfinite(value):
        return f"{value:g}"
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _markdown(head: Sequence[str], body: Iterable[Sequence[str]], text: int) -> str:
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "|".join("---" if place < text else "---:" for place in range(len(head))) + "|")
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in body]
    return "\n".join(lines)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
