"""Prints model versions, whether they are served as they were trained, and what became of a change of model."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from cli.model_versions import ModelAnswer, ModelCheckAnswer
from cli.printing.console import compact_table, err, out, plain
from shared.state import Rejection
from shared.state.model_changes import ModelChangeResult

_METRIC_NAMES = {
    "p_at_k": "P@{k}",
    "ap_at_k": "AP@{k}",
    "p_at_k_background": "P@{k} among background",
    "ap_at_k_background": "AP@{k} among background",
}
_SERVED = {True: "yes", False: "[red]no[/]", None: "[dim]unknown[/]"}


def print_models(models: Sequence[ModelAnswer]) -> None:
    """Print a table of the model versions, the metrics of their trainings, and what speaks against them."""
    if not models:
        out.print("No models. `artseek train` makes one, `python -m training.export` exports one off the shelf.")
        return
    table = compact_table("model", "backbone", "input", "dim", "served", "collections")
    for model in models:
        table.add_row(
            plain(_title(model)),
            plain(model["backbone"] or "–"),
            f"{model['input_size']} px" if model["input_size"] else "–",
            str(model["dim"] or "–"),
            _SERVED[model["served"]],
            plain(", ".join(model["collections"])),
        )
    out.print(table)
    for model in models:
        if model["figures"]:
            out.print(f"{_title(model)}: {_metrics_line(model['figures'])}", markup=False)
    for model in models:
        if model["error"]:
            err.print(f"{_title(model)}: {model['error']}", style="red", markup=False)


def print_checks(checks: Sequence[ModelCheckAnswer]) -> None:
    """Print for each version whether it is served as it was trained."""
    for check in checks:
        if check["error"]:
            err.print(f"{_title(check)}: {check['error']}", style="red", markup=False)
        else:
            difference = f"{check['difference']:.1e} off its golden vectors"
            out.print(f"{_title(check)}: served as trained, {difference}", markup=False)


def print_change(collection: str, result: ModelChangeResult, failed: Sequence[Rejection]) -> None:
    """Print what a change of model did, and which images failed."""
    if result.previous is None:
        out.print(f"{collection} uses {result.model} version {result.version} already", markup=False)
    else:
        out.print(
            f"{collection}: {result.images} images, changed from {result.previous.model} version "
            f"{result.previous.version} to {result.model} version {result.version}",
            markup=False,
        )
    if failed:
        table = Table("failed", "why", title_justify="left")
        for rejection in failed:
            table.add_row(plain(rejection.name), plain(rejection.reason))
        out.print(table)


def _title(model: ModelAnswer | ModelCheckAnswer) -> str:
    """Return a version as `artseek models use` takes it."""
    return f"{model['model']}:{model['version']}"


def _metrics_line(metrics: Mapping[str, float]) -> str:
    k = int(metrics.get("k", 10))
    return ", ".join(
        f"{_METRIC_NAMES.get(name, name).format(k=k)} {value:.3f}" for name, value in metrics.items() if name != "k"
    )
