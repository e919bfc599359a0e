"""`artseek models`: which models there are, how good they were found, whether they are served as they were trained.

And changing a collection to another one.
"""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.command import System, as_json_option, command, err, in_collection, out, plain, print_json
from shared.errors import ArtseekError, NotFound, Unavailable
from shared.rpc.serving import ModelNotFound, ServingClient, ServingError, golden
from shared.state import Job
from shared.state.jobs import new_job_id
from shared.storage.catalog import Catalog

MANIFEST = "assets.extra/artseek.json"
_POLL_S = 0.2
_REJECTED = 3
_NAMES = {
    "p_at_k": "P@{k}",
    "ap_at_k": "AP@{k}",
    "p_at_k_background": "P@{k} among background",
    "ap_at_k_background": "AP@{k} among background",
}

Version = tuple[str, int]


@click.group("models", invoke_without_command=True)
@as_json_option
@click.pass_context
def models(context: click.Context, *, as_json: bool) -> None:
    """List the models: what each was found to be worth, whether it is served, and which collections use it."""
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@command
def _list(system: System, *, as_json: bool) -> None:
    found = listing(system.settings.models, system.settings.serving_target, system.catalog)
    if as_json:
        print_json(found)
        return
    if not found:
        out.print("No models. `artseek train` makes one, `python -m training.export` exports one off the shelf.")
        return
    table = Table("model", "backbone", "input", "dim", "served", "collections", box=SIMPLE_HEAD, padding=(0, 0))
    for one in found:
        table.add_row(
            plain(_called(one)),
            plain(one["backbone"] or "–"),
            f"{one['input_size']} px" if one["input_size"] else "–",
            str(one["dim"] or "–"),
            _SERVED[one["served"]],
            plain(", ".join(one["collections"])),
        )
    out.print(table)
    for one in found:
        if one["figures"]:
            out.print(f"{_called(one)}: {_told(one['figures'])}", markup=False)
    for one in found:
        if one["error"]:
            err.print(f"{_called(one)}: {one['error']}", style="red", markup=False)


def _called(one: dict[str, Any]) -> str:
    """Return what `artseek models use` takes a version by."""
    return f"{one['model']}:{one['version']}"


_SERVED = {True: "yes", False: "[red]no[/]", None: "[dim]unknown[/]"}


def listing(folder: Path, target: str, catalog: Catalog) -> list[dict[str, Any]]:
    """Return the model versions that are exported, served or used, as JSON values, by name and version.

    Args:
        folder: of the exported models.
        target: host:port of the model server's gRPC API; `served` is None where it does not answer.
        catalog: knows the collections.
    """
    manifests = {version: _manifest(path) for version, path in _exported(folder).items()}
    users: defaultdict[Version, list[str]] = defaultdict(list)
    for name in catalog.names():
        collection = catalog.get(name)
        users[collection.model, collection.version].append(name)
    states = _states(target, sorted({name for name, _ in (*manifests, *users)}))
    known = manifests.keys() | users.keys() | {version for version, (served, _) in states.items() if served}
    return [_entry(version, manifests, users, states) for version in sorted(known)]


def _exported(folder: Path) -> dict[Version, Path]:
    """Return the manifests of the exported versions."""
    return {(path.parts[-4], int(path.parts[-3])): path for path in folder.glob(f"*/[0-9]*/{MANIFEST}")}


def _entry(
    version: Version,
    manifests: dict[Version, dict[str, Any]],
    users: dict[Version, list[str]],
    states: dict[Version, tuple[bool | None, str]],
) -> dict[str, Any]:
    manifest = manifests.get(version, {})
    served, error = states.get(version, states.get((version[0], 0), (False, "")))
    training = manifest.get("training", {})
    recipe = training.get("run", {}).get("recipe", {})
    return {
        "model": version[0],
        "version": version[1],
        "backbone": manifest.get("backbone"),
        "input_size": manifest.get("input_size"),
        "dim": manifest.get("dim"),
        "normalised": manifest.get("normalised"),
        "recipe": recipe.get("name") if isinstance(recipe, dict) else None,
        "figures": _figures(training),
        "served": served,
        "error": error,
        "collections": users.get(version, []),
    }


def _figures(training: dict[str, Any]) -> dict[str, float]:
    """Return what a training came to, from the manifest's part on it."""
    search = training.get("search") or {}
    background = search.get("background") or {}
    found = search | {f"{key}_background": value for key, value in background.items()} | training
    return {
        key: value for key, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _manifest(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # it is being replaced, or damaged: the model server tells
        return {}
    return found if isinstance(found, dict) else {}


def _states(target: str, names: list[str]) -> dict[Version, tuple[bool | None, str]]:
    """Return whether each version is served, and what the server says against it; under version 0, of all others."""
    states: dict[Version, tuple[bool | None, str]] = {}
    for name in names:
        try:
            with ServingClient(target, name, timeout_s=5.0) as serving:
                for one in serving.status():
                    states[name, one.version] = (one.state == "AVAILABLE", one.error)
        except ModelNotFound:
            states[name, 0] = (False, "")
        except ServingError:
            return {(other, 0): (None, "") for other in names}
    return states


def _told(figures: dict[str, float]) -> str:
    """Return figures in a line; those at k with the k."""
    k = int(figures.get("k", 10))
    return ", ".join(f"{_NAMES.get(key, key).format(k=k)} {value:.3f}" for key, value in figures.items() if key != "k")


@models.command("check")
@click.argument("model", metavar="[NAME[:VERSION]]", required=False)
@as_json_option
@command
def check(system: System, model: str | None, *, as_json: bool) -> int:
    """Ask the model server for each exported version's golden vectors: whether what is served is what was trained.

    Exit status 1: some version is not served, or gives something else.
    """
    name, number = _named(model) if model is not None else (None, None)
    folder = system.settings.models
    found = [one for one in sorted(_exported(folder)) if name in (None, one[0]) and number in (None, one[1])]
    if not found:
        raise NotFound(
            f"no version of {model or 'any model'} is exported to {str(folder)!r}; `artseek models` lists them"
        )
    results = [_checked(folder / one / str(version), system.settings.serving_target) for one, version in found]
    if as_json:
        print_json(results)
    for one in results if not as_json else ():
        if one["error"]:
            err.print(f"{_called(one)}: {one['error']}", style="red", markup=False)
        else:
            said = f"served as trained, {one['difference']:.1e} off its golden vectors"
            out.print(f"{_called(one)}: {said}", markup=False)
    return int(any(one["error"] for one in results))


def _checked(version: Path, target: str) -> dict[str, Any]:
    """Return how far what the server gives is from the golden vectors of the version in this folder, as JSON values."""
    made: dict[str, Any] = {"model": version.parent.name, "version": int(version.name), "difference": None, "error": ""}
    try:
        with ServingClient(target, version.parent.name, version=int(version.name)) as serving:
            made["difference"] = golden.check(version, serving.embed)
    except ArtseekError as error:
        made["error"] = str(error)
    return made


def _named(model: str) -> tuple[str, int | None]:
    """Return a model's name and version, None for no particular one."""
    name, colon, number = model.partition(":")
    if not name or (colon and not (number.isascii() and number.isdigit() and int(number))):
        raise click.BadParameter(f"{model!r} does not name a model: expected NAME or NAME:VERSION", param_hint="NAME")
    return name, int(number) if number else None


@models.command("use")
@click.argument("model", metavar="NAME[:VERSION]")
@in_collection
@as_json_option
@command
def use(system: System, model: str, collection: str, *, as_json: bool) -> int:
    """Change a collection to another model: embed its images anew, while it keeps answering, then switch.

    Without VERSION, the latest one served is taken. Interrupting the command does not stop the change; the same command
    follows it again.
    """
    name, version = _named(model)
    system.catalog.get(collection)
    job = new_job_id()
    system.jobs.create(job, collection, kind="change-model")
    system.queue.change_model(collection=collection, job=job, model=name, version=version)
    try:
        state = _followed(system, job, f"embedding {collection} with {model}")
    except KeyboardInterrupt:
        err.print("\nartseek: interrupted; the change goes on in the background, and the same command follows it")
        return 130
    result = system.jobs.result(job)
    if result is None:
        raise ArtseekError(state.outcome.rejected[0].reason if state.outcome.rejected else f"the job {job} failed")
    left_out = [{"name": one.name, "code": one.code, "reason": one.reason} for one in state.outcome.rejected]
    if as_json:
        print_json({"collection": collection, **result, "left_out": left_out, "job": job})
    elif result["switched"]:
        old = result["from"]
        out.print(
            f"{collection}: {result['images']} images, changed from {old['model']} version {old['version']} to "
            f"{result['model']} version {result['version']}",
            markup=False,
        )
    else:
        out.print(f"{collection} uses {result['model']} version {result['version']} already", markup=False)
    if left_out and not as_json:
        table = Table("left out", "why", title_justify="left")
        for one in left_out:
            table.add_row(plain(one["name"]), plain(one["reason"]))
        out.print(table)
    return _REJECTED if left_out else 0


def _followed(system: System, job: str, what: str) -> Job:
    """Wait for the end of a job, with a bar on a terminal; a server that restarts meanwhile is waited for."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task(plain(what), total=None)
        while True:
            try:
                state = system.jobs.get(job)
            except Unavailable:
                pass
            else:
                if state.done:
                    return state
                bar.update(task, completed=state.steps, total=state.total or None)
            time.sleep(_POLL_S)
