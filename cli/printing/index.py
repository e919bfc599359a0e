"""Prints what a tuning found."""

from collections.abc import Sequence

from rich.table import Table

from cli.printing.console import out
from shared.tuning.report import IndexReport, Miss, TrialReport, TuningReport

_MISSED: dict[Miss, str] = {
    "recall": "no index within these limits reaches the recall",
    "lookups": "the recall takes more look-ups than were allowed",
    "share": "the recall takes more candidates than were allowed",
}


def print_tuning(report: TuningReport, built: IndexReport | None) -> None:
    """Print the trials that could be chosen, and what was built if it was."""
    table = Table("", "family", "tables", "look-ups", "recall@10", "candidates", "cost")
    for trial in _thinned(report.pareto, report.chosen):
        size = f"{trial.hashes} hashes" if trial.cells is None else f"{trial.cells} cells"
        table.add_row(
            "▸" if trial == report.chosen else "",
            trial.family,
            f"{trial.tables} × {size}",
            str(trial.lookups),
            f"{trial.recall:.3f}",
            f"{100 * trial.candidate_share:.2f} %",
            f"{trial.cost_ms:.2f} ms",
            style="bold" if trial == report.chosen else None,
        )
    out.print(table)
    out.print(
        "Nothing tried finds more at the same cost. --json has all of it, and each family's own curve.", style="dim"
    )
    for missed in report.misses:
        out.print(f"[yellow]{_MISSED[missed]}[/]")
    if built is None:
        out.print("Nothing was written. Without --dry-run, the marked one is built.")
        return
    measured = built.measured
    if measured.recall is not None and measured.candidate_share is not None:
        out.print(
            f"Generation {built.generation} answers: measured on {measured.queries} images, recall@10 "
            f"{measured.recall:.3f} with {100 * measured.candidate_share:.2f} % of {built.images} images as candidates."
        )


def _thinned(curve: Sequence[TrialReport], chosen: TrialReport) -> list[TrialReport]:
    """Return the chosen trial and those of a curve that differ clearly from the one before."""
    shown: list[TrialReport] = []
    for trial in curve:
        if not shown or trial.cost_ms > 1.2 * shown[-1].cost_ms or trial.recall > shown[-1].recall + 0.05:
            shown.append(trial)
    return sorted([*(trial for trial in shown if trial != chosen), chosen], key=lambda trial: trial.cost_ms)
