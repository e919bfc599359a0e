"""The `artseek train` command: labelled images in, a judged network and a model to be served out.

Exit status: 0 success, 1 an error, 2 wrong usage, 130 interrupted: the same command goes on from where it was.
"""

import json
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from shared.errors import ArtseekError, Invalid
from shared.serving.quiet import import_quietly
from training.backbones import BACKBONES, backbone_named
from training.labelled import Labelled, apart, check_classes, read_labelled, split
from training.pretrained import Weights, weights_named
from training.recipes import Recipe, names, recipe_named
from training.runs import Run, locked

_NAMED = 10  # refused files that are listed
_VERSIONS = ("keras", "numpy", "pillow", "tensorflow", "tensorflow-cpu", "torch", "jax")

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


@click.command()
@click.option("--recipe", "recipe_name", required=True, help=f"{', '.join(names())}; or a .json file of your own.")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Folder with a folder of images for each class."
)
@click.option(
    "--validation", type=click.Path(path_type=Path), help="Such a folder to judge by.  [default: a share of --data]"
)
@click.option(
    "--validation-share",
    type=click.FloatRange(0.01, 0.9),
    default=0.15,
    show_default=True,
    help="Held back from --data.",
)
@click.option("--backbone", type=click.Choice(sorted(BACKBONES)), help="Instead of the recipe's.")
@click.option("--weights", default="imagenet", show_default=True, help="imagenet, random, or a file in Keras' format.")
@click.option(
    "--size", type=click.IntRange(32, 1024), help="Side of the pictures in pixels.  [default: the backbone's]"
)
@click.option("--epochs", type=click.IntRange(1), help="At most, instead of the recipe's.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is drawn.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/NAME]")
@click.option("--models", type=click.Path(path_type=Path), help="Also export the network to this folder of models.")
@click.option("--name", help="Of run and exported model.  [default: the recipe, and the backbone if it is another]")
@click.option("--version", type=click.IntRange(1), default=1, show_default=True, help="Version of the exported model.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(**options: Any) -> None:
    """Fine-tune a network for the classes of labelled images.

    An interrupted run goes on where it was when the same command is given again.
    """
    try:
        _train(**options)
    except (ArtseekError, OSError) as error:
        _err.print(f"artseek: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        _err.print("\nartseek: interrupted; the same command goes on from here")
        sys.exit(130)


def _train(  # noqa: PLR0913 -- its options
    *,
    recipe_name: str,
    data: Path,
    validation: Path | None,
    validation_share: float,
    backbone: str | None,
    weights: str,
    size: int | None,
    epochs: int | None,
    seed: int,
    out: Path | None,
    models: Path | None,
    name: str | None,
    version: int,
    as_json: bool,
) -> None:
    recipe = recipe_named(recipe_name)
    recipe = replace(recipe, backbone=backbone or recipe.backbone, epochs=epochs or recipe.epochs)
    network, beginning = backbone_named(recipe.backbone), weights_named(weights, seed=seed)
    size = size or network.input_size
    own = recipe.name.startswith(f"{recipe.backbone}-")
    name = name or (recipe.name if own else f"{recipe.name}-{recipe.backbone}")
    folder = out or Path("runs") / name
    with locked(folder):
        training, judged = _data(data, validation, validation_share)
        about = {
            "recipe": {"name": recipe.name, **recipe.to_json()},
            "weights": network.about(beginning),
            "size": size,
            "seed": seed,
            "classes": list(training.classes),
            "training": {"images": len(training), "sha256": training.digest, "classes": training.sizes},
            "validation": {"images": len(judged), "sha256": judged.digest, "classes": judged.sizes},
            "versions": _versions(),
        }
        run = Run.opened(folder, about)
        result = run.result() or _fit(run, recipe, beginning, training, judged, size=size, seed=seed)
        exported = _export(run, models, name, version) if models is not None else None
    if as_json:
        _out.print_json(json.dumps(result | {"run": str(folder)} | ({"model": str(exported)} if exported else {})))
        return
    _show(result)
    _out.print(f"{folder}: report, curves, weights", markup=False)
    if exported:
        _out.print(f"exported: {exported}", markup=False)


def _data(data: Path, validation: Path | None, share: float) -> tuple[Labelled, Labelled]:
    """Return the images to learn from and to judge by, and tell what is wrong with some."""
    with _progress() as progress:
        training = read_labelled(data, progress("looking at the images"))
        judged = read_labelled(validation, progress("looking at the validation images")) if validation else None
    for one in (training, judged):
        if one is not None:
            _tell_refused(one)
    if judged is None:
        return split(training, share)
    check_classes(judged, training)
    training, leaked = apart(training, judged)
    if leaked:
        _err.print(
            f"{leaked} training images are also validation images, byte for byte; they are left out of the training, "
            "since they would flatter the figures",
            style="yellow",
        )
        if not all(training.sizes.values()):
            raise Invalid("a class has no training image that is not also a validation image")
    return training, judged


def _tell_refused(data: Labelled) -> None:
    if data.copies:
        _err.print(f"{data.copies} images are byte-identical to another of their class and left out", style="yellow")
    if data.refused:
        _err.print(f"{len(data.refused)} files cannot be used and are left out:", style="yellow")
    for one in data.refused[:_NAMED]:
        _err.print(f"  {one.path}: {one.reason}", style="yellow", markup=False)
    if len(data.refused) > _NAMED:
        _err.print(f"  and {len(data.refused) - _NAMED} more", style="yellow")


def _fit(
    run: Run, recipe: Recipe, weights: Weights, training: Labelled, validation: Labelled, *, size: int, seed: int
) -> dict[str, Any]:
    from training.curves import draw_curves  # noqa: PLC0415 -- takes a second to import

    classes = import_quietly("training.classes")
    with _progress() as progress:
        trained = classes.fine_tune(
            run,
            recipe,
            weights,
            training,
            validation,
            size=size,
            seed=seed,
            tell=lambda what, done, total: progress(what)(done, total),
        )
    trained.network.save_weights(run.path("network.part.weights.h5"))
    run.path("network.part.weights.h5").replace(run.path("network.weights.h5"))
    run.write("architecture.json", json.dumps(trained.architecture.to_json(), indent=2).encode())
    draw_curves(trained.history, trained.best, run.folder.name, run.path("curves.png"))
    best = trained.history[trained.best]
    taken = (
        f"{recipe.about} {len(training)} training and {len(validation)} validation images. Epoch {trained.best + 1} of "
        f"{len(trained.history)} was taken, with loss {best['validation_loss']:.4f} and accuracy "
        f"{best['validation_accuracy']:.4f} on the validation images."
    )
    curves = "![loss and accuracy by epoch](curves.png)"
    lines = [f"# {recipe.name} on {recipe.backbone}", taken, trained.report.markdown(), curves]
    run.write("report.md", "\n\n".join(lines).encode() + b"\n")
    result = {
        "recipe": recipe.name,
        "backbone": recipe.backbone,
        "epochs": len(trained.history),
        "best_epoch": trained.best + 1,
        "loss": best["validation_loss"],
        "accuracy": best["validation_accuracy"],
        "report": trained.report.to_json(),
        "history": trained.history,
    }
    run.write("report.json", json.dumps(result, indent=2).encode())  # last: with it, the run has ended
    run.clear()
    return result


def _export(run: Run, models: Path, name: str, version: int) -> Path:
    """Export the network of a run that has ended, and return the folder of its version."""
    from training.export import export_network, write_model_config  # noqa: PLC0415 -- Keras takes seconds to import
    from training.network import Architecture, load_network  # noqa: PLC0415

    architecture = Architecture.from_json(json.loads(run.path("architecture.json").read_text("utf-8")))
    network = load_network(architecture, run.path("network.weights.h5"))
    result = run.result() or {}
    models = models.resolve()
    about = {"run": run.about, "loss": result["loss"], "accuracy": result["accuracy"]}
    export_network(architecture, network, models, name, version, about)
    write_model_config(models, str(models))
    return models / name / str(version)


def _show(result: dict[str, Any]) -> None:
    table = Table("class", "precision", "recall", "F1", "support")
    report = result["report"]
    rows = [*report["classes"].items(), ("macro avg", report["macro"]), ("weighted avg", report["weighted"])]
    for label, one in rows:
        table.add_row(label, *(f"{one[key]:.2f}" for key in ("precision", "recall", "f1")), str(one["support"]))
    _out.print(table)
    taken = f"epoch {result['best_epoch']} of {result['epochs']}"
    _out.print(f"{taken}: loss {result['loss']:.4f}, accuracy {result['accuracy']:.4f}")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def _progress() -> Iterator[Any]:
    """Give a function from what is done to what is told of it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def of(what: str) -> Any:
            def tell(done: int, total: int) -> None:
                if what not in tasks:
                    for task in tasks.values():
                        bars.remove_task(task)
                    tasks.clear()
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done, total=total)

            return tell

        yield of
