"""The `artseek train` command: labelled images in, a scored network and a model to be served out.

Exit status: 0 success, 1 an error, 2 wrong usage, 130 interrupted: the same command goes on from where it was.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from shared.errors import ArtseekError, Invalid
from shared.tensorflow_runtime import import_quietly
from training.backbones import BACKBONES, backbone_named
from training.backend import TENSORFLOW, chosen_backend
from training.fine_tuning import fine_tune
from training.labelled_images import (
    ImageFile,
    LabelledImages,
    RefusedFile,
    TrainingData,
    check_same_classes,
    digest_of,
    read_background,
    read_labelled,
    split,
    without_copies_of,
)
from training.pretrained import Weights, weights_named
from training.progress import progress_bars
from training.recipes import DEFAULT, Recipe, SearchRecipe, names, recipe_named
from training.runs import Run, locked

_LISTED_FILES = 10  # of those that are refused
_PACKAGES = ("keras", "numpy", "pillow", "tensorflow", "tensorflow-cpu", "torch", "jax")  # whose versions are kept

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What is given on the command line; see `train`."""

    recipe_name: str
    data: Path
    validation: Path | None
    validation_share: float
    background: Path | None
    backbone: str | None
    weights: str
    size: int | None
    epochs: int | None
    seed: int
    precision: str
    out: Path | None
    models: Path | None
    name: str | None
    version: int
    as_json: bool


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is to be trained, and where, after all options were checked that can be without an image."""

    recipe: Recipe
    weights: Weights
    size: int
    backend: str
    name: str
    folder: Path


@click.command()
@click.option(
    "--recipe",
    "recipe_name",
    default=DEFAULT,
    show_default=True,
    help=f"{', '.join(names())}; or a .json file of your own.",
)
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
    help="Held back from --data, unless --validation is given, and from --background.",
)
@click.option(
    "--background",
    type=click.Path(path_type=Path),
    help="Folder of images of no class, to tell the classes from; a share is held back to judge by.",
)
@click.option("--backbone", type=click.Choice(sorted(BACKBONES)), help="Instead of the recipe's.")
@click.option("--weights", default="imagenet", show_default=True, help="imagenet, random, or a file in Keras' format.")
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    help="Side of the pictures in pixels.  [default: the recipe's, or the backbone's]",
)
@click.option("--epochs", type=click.IntRange(1), help="At most, instead of the recipe's.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is drawn.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "single", "mixed"]),
    default="auto",
    show_default=True,
    help="Of the backbone; auto: mixed, half and single, where there is a GPU.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/NAME]")
@click.option("--models", type=click.Path(path_type=Path), help="Also export the network to this folder of models.")
@click.option("--name", help="Of run and exported model.  [default: the recipe, and the backbone if it is another]")
@click.option("--version", type=click.IntRange(1), default=1, show_default=True, help="Version of the exported model.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(**options: Any) -> None:
    """Fine-tune a network on labelled images, for search or for their classes.

    An interrupted run goes on where it was when the same command is given again.
    """
    try:
        _train(_Options(**options))
    except (ArtseekError, OSError) as error:
        _err.print(f"artseek: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        _err.print("\nartseek: interrupted; the same command goes on from here")
        sys.exit(130)


def _train(options: _Options) -> None:
    plan = _plan(options)
    exported: Path | None = None
    with locked(plan.folder):
        data = _read_data(options)
        if plan.backend != TENSORFLOW:
            # Keras on another library imports TensorFlow too, but later, and then its messages would be shown.
            import_quietly("keras")
            import_quietly("tensorflow")
        precision = import_quietly("training.precision").set_precision(options.precision)
        run = Run.open(plan.folder, _about(plan, options.seed, data, precision))
        result = run.result()
        if result is None:
            result = fine_tune(run, plan.recipe, plan.weights, data, size=plan.size, seed=options.seed)
        if options.models is not None:
            exported = _export(run, options.models, plan.name, options.version)
    if options.as_json:
        where = {"run": str(plan.folder)} | ({"model": str(exported)} if exported else {})
        _out.print_json(json.dumps(result | where))
        return
    _print_result(result)
    _out.print(f"{plan.folder}: report, curves, weights", markup=False)
    if exported:
        _out.print(f"exported: {exported}", markup=False)


def _plan(options: _Options) -> _Plan:
    """Check the options, and fill in what is not given.

    Raises:
        Invalid: An option does not fit.
        NotFound: There is no such recipe or backbone.
    """
    backend = chosen_backend()
    given = recipe_named(options.recipe_name)
    recipe = replace(given, backbone=options.backbone or given.backbone, epochs=options.epochs or given.epochs)
    backbone = backbone_named(recipe.backbone)
    if options.background is not None and not isinstance(recipe, SearchRecipe):
        raise Invalid(f"the recipe {recipe.name!r} learns classes alone; leave --background out, or take {DEFAULT!r}")
    own_name = recipe.name if recipe.backbone == given.backbone else f"{recipe.name}-{recipe.backbone}"
    name = options.name or own_name
    return _Plan(
        recipe=recipe,
        weights=weights_named(options.weights, seed=options.seed),
        size=options.size or (recipe.size if isinstance(recipe, SearchRecipe) else backbone.input_size),
        backend=backend,
        name=name,
        folder=options.out or Path("runs") / name,
    )


def _about(plan: _Plan, seed: int, data: TrainingData, precision: str) -> dict[str, Any]:
    """Return all that the result of a run depends on."""
    training, validation = data.training, data.validation
    return {
        "recipe": {"name": plan.recipe.name, **plan.recipe.to_json()},
        "weights": backbone_named(plan.recipe.backbone).about(plan.weights),
        "size": plan.size,
        "seed": seed,
        "classes": list(training.classes),
        "training": {"images": len(training), "sha256": training.digest, "classes": training.sizes},
        "validation": {"images": len(validation), "sha256": validation.digest, "classes": validation.sizes},
        "background": {"images": len(data.background), "sha256": digest_of(data.background)},
        "held_back": {"images": len(data.held_back), "sha256": digest_of(data.held_back)},
        "backend": plan.backend,
        "precision": precision,
        "versions": _versions(),
    }


def _read_data(options: _Options) -> TrainingData:
    """Read the images to learn from and to judge by, and print what is left out."""
    training, validation = _read_labelled(options.data, options.validation, options.validation_share)
    if options.background is None:
        return TrainingData(training, validation)
    background, held_back = _read_background(options.background, (training, validation), options.validation_share)
    return TrainingData(training, validation, background, held_back)


def _read_labelled(data: Path, validation: Path | None, share: float) -> tuple[LabelledImages, LabelledImages]:
    with progress_bars() as bar:
        training_images = read_labelled(data, bar("looking at the images"))
        validation_images = read_labelled(validation, bar("looking at the validation images")) if validation else None
    for images in (training_images, validation_images):
        if images is not None:
            _print_refused(images.refused, images.copies)
    if validation_images is None:
        return split(training_images, share)
    check_same_classes(validation_images, training_images)
    training_images, leaked = without_copies_of(training_images, validation_images)
    if leaked:
        _err.print(
            f"{leaked} training images are also validation images, byte for byte; they are left out of the training, "
            "since they would flatter the figures",
            style="yellow",
        )
        if not all(training_images.sizes.values()):
            raise Invalid("a class has no training image that is not also a validation image")
    return training_images, validation_images


def _read_background(
    folder: Path, labelled: Sequence[LabelledImages], share: float
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Return the images of no class to learn from, and those that are held back to judge by, chosen by content."""
    with progress_bars() as bar:
        images, refused = read_background(folder, labelled, bar("looking at the background"))
    _print_refused(refused)
    held_back = max(1, round(share * len(images)))  # they are sorted by digest, which is as good as drawn
    return images[held_back:], images[:held_back]


def _print_refused(refused: Sequence[RefusedFile], copies: int = 0) -> None:
    if copies:
        _err.print(f"{copies} images are byte-identical to another of their class and left out", style="yellow")
    if refused:
        _err.print(f"{len(refused)} files cannot be used and are left out:", style="yellow")
    for file in refused[:_LISTED_FILES]:
        _err.print(f"  {file.path}: {file.reason}", style="yellow", markup=False)
    if len(refused) > _LISTED_FILES:
        _err.print(f"  and {len(refused) - _LISTED_FILES} more", style="yellow")


def _export(run: Run, models: Path, name: str, version: int) -> Path:
    """Export the network of a run that has ended, and return the folder of its version.

    The export runs in a process of its own, on TensorFlow, whatever Keras was trained on.
    """
    models = models.resolve()
    arguments = ["--run", run.folder.resolve(), "--out", models, "--name", name, "--version", version]
    command = [sys.executable, "-m", "training.export", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise ArtseekError(f"the export failed: {lines[-1].removeprefix('error: ')}")
    return models / name / str(version)


def _print_result(result: dict[str, Any]) -> None:
    table = Table("class", "precision", "recall", "F1", "support")
    report = result["report"]
    rows = [*report["classes"].items(), ("macro avg", report["macro"]), ("weighted avg", report["weighted"])]
    for label, scores in rows:
        table.add_row(label, *(f"{scores[key]:.2f}" for key in ("precision", "recall", "f1")), str(scores["support"]))
    _out.print(table)
    if search := result.get("search"):
        k = search["k"]
        searches = {"the training images": search, "them and background never seen": search["background"]}
        for among, scores in searches.items():
            if scores:
                _out.print(f"among {among}: P@{k} {scores['p_at_k']:.3f}, AP@{k} {scores['ap_at_k']:.3f}")
    taken = f"epoch {result['best_epoch']} of {result['epochs']}"
    _out.print(f"{taken}: loss {result['loss']:.4f}, accuracy {result['accuracy']:.4f}")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


if __name__ == "__main__":
    train()
