"""Prints the report of an evaluation."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from cli.printing.console import compact_table, out, plain
from shared.evaluation.index_setting import IndexSetting
from shared.evaluation.report import EvaluationReport
from shared.evaluation.run_scores import RunScores
from shared.hashing.parameters import PARAMETERS


def print_evaluation(report: EvaluationReport) -> None:
    """Print the scores of the runs, of the grid and of the classes, and what to know about them."""
    k, collection = report.k, report.collection
    table = compact_table("search", "distractors", f"P@{k}", "95 %", f"AP@{k}", "recall", "candidates", "p50")
    for run in report.runs:
        table.add_row(*_cells(run))
    out.print(table)
    if report.grid:
        out.print(_grid_table(report))
    out.print(_class_table(report))
    for note in _notes(report):
        out.print(note, style="yellow", markup=False)
    out.print(
        f"{report.queries} queries over {collection.images} images, {collection.labelled} of them with "
        f"{_class_name(report)}; {report.seconds:.1f} s; evaluation {report.id}",
        style="dim",
    )


def _class_name(report: EvaluationReport) -> str:
    """Return what images of a class have."""
    return "a label" if report.field == "label" else f"the field {report.field}"


def _cells(run: RunScores) -> Sequence[str]:
    low, high = run.interval["p_at_k"]
    return (
        f"{run.search} {run.metric}",
        "with" if run.distractors else "without",
        f"{run.p_at_k:.3f}",
        f"{low:.2f}–{high:.2f}",
        f"{run.ap_at_k:.3f}",
        f"{run.recall_at_k:.3f}",
        f"{100 * run.candidate_fraction:.2f} %",
        _number(run.latency_ms.p50, "{:.1f} ms"),
    )


def _class_table(report: EvaluationReport) -> Table:
    k = report.k
    table = compact_table(
        *("class", "queries", f"P@{k}", "95 %", f"AP@{k}", "images"), title="exact cosine, with distractors"
    )
    for label, scores in report.runs[0].per_class.items():
        low, high = scores.interval["p_at_k"]
        table.add_row(
            plain(label),
            str(scores.queries),
            f"{scores.p_at_k:.3f}",
            f"{low:.2f}–{high:.2f}",
            f"{scores.ap_at_k:.3f}",
            str(scores.relevant),
        )
    return table


def _grid_table(report: EvaluationReport) -> Table:
    k = report.k
    table = compact_table(
        *("setting", f"P@{k}", "recall", "candidates", f"P@{k} without", "recall"),
        title="grid, cosine, with distractors and without (--json has the rest)",
    )
    for setting in report.grid:
        runs = {run.distractors: run for run in setting.runs if run.metric == "cosine"}
        with_all, labelled = runs[True], runs[False]
        table.add_row(
            _setting_title(setting.setting),
            f"{with_all.p_at_k:.3f}",
            f"{with_all.recall_at_k:.3f}",
            f"{100 * with_all.candidate_fraction:.2f} %",
            f"{labelled.p_at_k:.3f}",
            f"{labelled.recall_at_k:.3f}",
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _setting_title(setting: IndexSetting) -> str:
    """Return a setting such as ``p-stable plain L=4 k=8 w=1.5``."""
    name = f"{setting.family} plain" if setting.space == "plain" else setting.family
    given = setting.given()
    values = (f"{parameter.symbol}={given[parameter.name]}" for parameter in PARAMETERS if parameter.name in given)
    return " ".join([name, *values])


def _notes(report: EvaluationReport) -> Iterator[str]:
    queries = report.query_set
    if queries.in_collection and queries.kind != "sample":
        yield f"{queries.in_collection} queries are in the collection too: they never count as hits of themselves."
    near = {copy.digest for copy in queries.copies or () if copy.kind == "near"}
    if near:
        yield f"{len(near)} queries have near copies in the collection, which count as hits: {_without_copies(report)}."
    if queries.without_relevant:
        yield f"{queries.without_relevant} queries have nothing of their class to find, and count as 0."
    for rejection in queries.rejected:
        yield f"left out: {plain(rejection.name)}: {rejection.reason}"
    if not report.collection.generation:
        yield "The collection has no index yet, so only the exact scan was evaluated."
    if report.changed:
        yield "Images came or went meanwhile: the figures are not of one state of the collection."


def _without_copies(report: EvaluationReport) -> str:
    """Return what the scores are without the queries that have copies."""
    best = report.runs[0]
    clean = best.without_copies
    if clean is None or clean.p_at_k is None:
        return "every query has one"
    return f"without the queries that have copies, P@{report.k} is {clean.p_at_k:.3f} instead of {best.p_at_k:.3f}"
