"""The `artseek train` command: labelled images in, a judged network and a model to be served out.

Exit status: 0 success, 1 an error, 2 wrong usage, 130 interrupted: the same command goes on from where it was.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from shared.errors import ArtseekError, Invalid
from shared.rpc.serving import golden
from shared.tensorflow_runtime import import_quietly
from training.backbones import BACKBONES, backbone_named
from training.backend import TENSORFLOW, chosen_backend
from training.labelled import (
    Labelled,
    Picture,
    Refused,
    apart,
    check_classes,
    digest_of,
    read_background,
    read_labelled,
    split,
)
from training.network import network_embed
from training.pretrained import Weights, weights_named
from training.progress import progress_bars
from training.recipes import DEFAULT, ClassRecipe, Recipe, SearchRecipe, names, recipe_named
from training.runs import Run, locked

_NAMED = 10  # refused files that are listed
_VERSIONS = ("keras", "numpy", "pillow", "tensorflow", "tensorflow-cpu", "torch", "jax")

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


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
    background: Path | None,
    backbone: str | None,
    weights: str,
    size: int | None,
    epochs: int | None,
    seed: int,
    precision: str,
    out: Path | None,
    models: Path | None,
    name: str | None,
    version: int,
    as_json: bool,
) -> None:
    backend = chosen_backend()
    recipe = recipe_named(recipe_name)
    recipe = replace(recipe, backbone=backbone or recipe.backbone, epochs=epochs or recipe.epochs)
    network, beginning = backbone_named(recipe.backbone), weights_named(weights, seed=seed)
    size = size or (recipe.size if isinstance(recipe, SearchRecipe) else network.input_size)
    own = recipe_named(recipe_name).backbone == recipe.backbone
    name = name or (recipe.name if own else f"{recipe.name}-{recipe.backbone}")
    if background is not None and not isinstance(recipe, SearchRecipe):
        raise Invalid(f"the recipe {recipe.name!r} learns classes alone; leave --background out, or take {DEFAULT!r}")
    folder = out or Path("runs") / name
    with locked(folder):
        training, judged = _data(data, validation, validation_share)
        taught, held = _background(background, (training, judged), validation_share)
        if backend != TENSORFLOW:
            import_quietly("keras")  # which imports TensorFlow too, but later and aloud
            import_quietly("tensorflow")
        about = {
            "recipe": {"name": recipe.name, **recipe.to_json()},
            "weights": network.about(beginning),
            "size": size,
            "seed": seed,
            "classes": list(training.classes),
            "training": {"images": len(training), "sha256": training.digest, "classes": training.sizes},
            "validation": {"images": len(judged), "sha256": judged.digest, "classes": judged.sizes},
            "background": {"images": len(taught), "sha256": digest_of(taught)},
            "held_back": {"images": len(held), "sha256": digest_of(held)},
            "backend": backend,
            "precision": import_quietly("training.precision").set_precision(precision),
            "versions": _versions(),
        }
        run = Run.opened(folder, about)
        result = run.result()
        if result is None:
            if isinstance(recipe, SearchRecipe):
                result = _fit_search(run, recipe, beginning, training, judged, (taught, held), size=size, seed=seed)
            else:
                result = _fit_classes(run, recipe, beginning, training, judged, size=size, seed=seed)
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
    with progress_bars() as progress:
        training = read_labelled(data, progress("looking at the images"))
        judged = read_labelled(validation, progress("looking at the validation images")) if validation else None
    for one in (training, judged):
        if one is not None:
            _tell_refused(one.refused, one.copies)
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


def _background(folder: Path | None, known: Sequence[Labelled], share: float) -> tuple[list[Picture], list[Picture]]:
    """Return the images of no class to learn from, and those that are held back to judge by, chosen by content."""
    if folder is None:
        return [], []
    with progress_bars() as progress:
        pictures, refused = read_background(folder, known, progress("looking at the background"))
    _tell_refused(refused)
    held = max(1, round(share * len(pictures)))  # they are sorted by digest, which is as good as drawn
    return pictures[held:], pictures[:held]


def _tell_refused(refused: Sequence[Refused], copies: int = 0) -> None:
    if copies:
        _err.print(f"{copies} images are byte-identical to another of their class and left out", style="yellow")
    if refused:
        _err.print(f"{len(refused)} files cannot be used and are left out:", style="yellow")
    for one in refused[:_NAMED]:
        _err.print(f"  {one.path}: {one.reason}", style="yellow", markup=False)
    if len(refused) > _NAMED:
        _err.print(f"  and {len(refused) - _NAMED} more", style="yellow")


def _fit_classes(
    run: Run, recipe: ClassRecipe, weights: Weights, training: Labelled, validation: Labelled, *, size: int, seed: int
) -> dict[str, Any]:
    from training.curves import CLASSES  # noqa: PLC0415 -- takes a second to import

    classes = import_quietly("training.classes")
    with progress_bars() as progress:
        trained = classes.fine_tune(
            run, recipe, weights, training, validation, size=size, seed=seed, tell=_teller(progress)
        )
    best = trained.history[trained.best]
    lines = [
        _counted(recipe, training, validation),
        f"Epoch {trained.best + 1} of {len(trained.history)} was taken, with loss {best['validation_loss']:.4f}.",
        trained.report.markdown(),
    ]
    result = {"loss": best["validation_loss"], "accuracy": best["validation_accuracy"]}
    return _finish(run, recipe, trained, trained.best, lines, result, CLASSES)


def _fit_search(
    run: Run,
    recipe: SearchRecipe,
    weights: Weights,
    training: Labelled,
    validation: Labelled,
    background: tuple[list[Picture], list[Picture]],
    *,
    size: int,
    seed: int,
) -> dict[str, Any]:
    similarity = import_quietly("training.similarity")
    with progress_bars() as progress:
        trained = similarity.fine_tune(
            run, recipe, weights, training, validation, background, size=size, seed=seed, tell=_teller(progress)
        )
    k, last = similarity.K, trained.history[-1]
    found = {"k": k, **vars(trained.search), "background": trained.mixed and vars(trained.mixed)}
    lines = [
        _counted(recipe, training, validation),
        f"Of the background {len(background[0])} images were learned from, {len(background[1])} held back.",
        f"P@{k}: of the {k} training images nearest to a validation image, the share of its class; AP@{k} by rank too.",
        _search_table(trained.search, trained.mixed, k),
        f"Its class is told by the {k} nearest training images, each voting by its similarity:",
        trained.report.markdown(),
    ]
    result = {"loss": last["validation_loss"], "accuracy": trained.report.accuracy, "search": found}
    searches = [(f"p_at_{k}", "among the training images")]
    searches += [(f"p_at_{k}_background", "and held back background")] if trained.mixed else []
    panels = (
        ("loss", (("loss", "training"), ("validation_loss", "validation"))),
        (f"P@{k} of the validation images", searches),
    )
    return _finish(run, recipe, trained, len(trained.history) - 1, lines, result, panels)


def _teller(progress: Any) -> Callable[[str, int, int], None]:
    return lambda what, done, total: progress(what)(done, total)


def _counted(recipe: Recipe, training: Labelled, validation: Labelled) -> str:
    return f"{recipe.about} {len(training)} training and {len(validation)} validation images."


def _search_table(alone: Any, mixed: Any, k: int) -> str:
    ends = [f"P@{k}", f"AP@{k}"] + ([f"P@{k}, with background", f"AP@{k}, with background"] if mixed else [])
    lines = [f"| class | {' | '.join(ends)} |", "|---" * (len(ends) + 1) + "|"]
    for name in [*alone.per_class, "all"]:
        parts = [vars(one) if name == "all" else one.per_class[name] for one in (alone, mixed) if one]
        figures = [f"{one[key]:.3f}" for one in parts for key in ("p_at_k", "ap_at_k")]
        lines.append(f"| {name.replace('|', chr(92) + '|')} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _finish(
    run: Run, recipe: Recipe, trained: Any, best: int, lines: list[str], result: dict[str, Any], panels: Any
) -> dict[str, Any]:
    """Write what came of a run into its folder, and return the result."""
    from training.curves import draw_curves  # noqa: PLC0415 -- takes a second to import

    if run.about["backend"] != TENSORFLOW:  # the export is then held to what this library makes of the network
        golden.write(run.folder, trained.architecture.input_size, network_embed(trained.architecture, trained.network))
    trained.network.save_weights(run.path("network.part.weights.h5"))
    run.path("network.part.weights.h5").replace(run.path("network.weights.h5"))
    run.write("architecture.json", json.dumps(trained.architecture.to_json(), indent=2).encode())
    draw_curves(trained.history, best, run.folder.name, run.path("curves.png"), panels)
    text = [f"# {recipe.name} on {recipe.backbone}", *lines, "![by epoch](curves.png)"]
    run.write("report.md", "\n\n".join(text).encode() + b"\n")
    result = {
        "recipe": recipe.name,
        "backbone": recipe.backbone,
        "epochs": len(trained.history),
        "best_epoch": best + 1,
        **result,
        "report": trained.report.to_json(),
        "history": trained.history,
    }
    run.write("report.json", json.dumps(result, indent=2).encode())  # last: with it, the run has ended
    run.clear()
    return result


def _export(run: Run, models: Path, name: str, version: int) -> Path:
    """Export the network of a run that has ended, and return the folder of its version.

    In a process of its own, on TensorFlow, whatever Keras was trained on.
    """
    models = models.resolve()
    arguments = ["--run", run.folder.resolve(), "--out", models, "--name", name, "--version", version]
    command = [sys.executable, "-m", "training.export", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it ended without a word"]
        raise ArtseekError(f"the export failed: {said[-1].removeprefix('error: ')}")
    return models / name / str(version)


def _show(result: dict[str, Any]) -> None:
    table = Table("class", "precision", "recall", "F1", "support")
    report = result["report"]
    rows = [*report["classes"].items(), ("macro avg", report["macro"]), ("weighted avg", report["weighted"])]
    for label, one in rows:
        table.add_row(label, *(f"{one[key]:.2f}" for key in ("precision", "recall", "f1")), str(one["support"]))
    _out.print(table)
    if search := result.get("search"):
        for one, among in ((search, "the training images"), (search["background"], "them and background never seen")):
            if one:
                k = search["k"]
                _out.print(f"among {among}: P@{k} {one['p_at_k']:.3f}, AP@{k} {one['ap_at_k']:.3f}")
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


if __name__ == "__main__":
    train()
