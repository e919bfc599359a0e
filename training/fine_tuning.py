"""Fine-tuning by a recipe of either kind: trains a network and writes the outcome into the run's folder."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shared.rpc.serving import golden
from shared.tensorflow_runtime import import_quietly
from training.backend import TENSORFLOW
from training.labelled_images import TrainingData
from training.network import network_embed
from training.pretrained import Weights
from training.progress import progress_bars
from training.recipes import ClassRecipe, Recipe, SearchRecipe
from training.runs import Run
from training.search_scores import K, SearchScores

if TYPE_CHECKING:
    from training.classes import TrainedForClasses
    from training.curves import Panels
    from training.similarity import TrainedForSearch


def fine_tune(
    run: Run, recipe: Recipe, weights: Weights, data: TrainingData, *, size: int, seed: int
) -> dict[str, Any]:
    """Train, or go on training, until the run has ended; returns its result, as ``report.json`` holds it.

    Args:
        run: Where all is kept.
        recipe: How to train.
        weights: What the backbone begins with.
        data: The images.
        size: Side of the images in pixels.
        seed: Of all that is drawn.
    """
    module = import_quietly("training.similarity" if isinstance(recipe, SearchRecipe) else "training.classes")
    with progress_bars() as bar:
        trained = module.fine_tune(
            run,
            recipe,
            weights,
            data,
            size=size,
            seed=seed,
            on_progress=lambda description, done, total: bar(description)(done, total),
        )
    if isinstance(recipe, SearchRecipe):
        return _write_search_outcome(run, recipe, data, trained)
    return _write_classes_outcome(run, recipe, data, trained)


def _write_classes_outcome(
    run: Run, recipe: ClassRecipe, data: TrainingData, trained: "TrainedForClasses"
) -> dict[str, Any]:
    from training.curves import CLASSES  # noqa: PLC0415 -- takes a second to import

    best = trained.history[trained.best]
    paragraphs = [
        _description(recipe, data),
        f"Epoch {trained.best + 1} of {len(trained.history)} was taken, with loss {best['validation_loss']:.4f}.",
        trained.report.markdown(),
    ]
    scores = {"loss": best["validation_loss"], "accuracy": best["validation_accuracy"]}
    return _write_outcome(run, recipe, trained, trained.best, paragraphs, scores, CLASSES)


def _write_search_outcome(
    run: Run, recipe: SearchRecipe, data: TrainingData, trained: "TrainedForSearch"
) -> dict[str, Any]:
    last, with_background = trained.history[-1], trained.scores_with_background
    paragraphs = [
        _description(recipe, data),
        f"Of the background {len(data.background)} images were learned from, {len(data.held_back)} held back.",
        f"P@{K}: of the {K} training images nearest to a validation image, the share of its class; AP@{K} by rank too.",
        _search_table(trained.scores, with_background, K),
        f"Its class is told by the {K} nearest training images, each voting by its similarity:",
        trained.report.markdown(),
    ]
    scores = {
        "loss": last["validation_loss"],
        "accuracy": trained.report.accuracy,
        "search": {"k": K, **vars(trained.scores), "background": with_background and vars(with_background)},
    }
    searches = [(f"p_at_{K}", "among the training images")]
    searches += [(f"p_at_{K}_background", "and held back background")] if with_background else []
    panels = (
        ("loss", (("loss", "training"), ("validation_loss", "validation"))),
        (f"P@{K} of the validation images", searches),
    )
    return _write_outcome(run, recipe, trained, len(trained.history) - 1, paragraphs, scores, panels)


def _description(recipe: Recipe, data: TrainingData) -> str:
    return f"{recipe.about} {len(data.training)} training and {len(data.validation)} validation images."


def _search_table(scores: SearchScores, with_background: SearchScores | None, k: int) -> str:
    """Return P@k and AP@k of each class, and of all, as a Markdown table."""
    columns = [f"P@{k}", f"AP@{k}"]
    columns += [f"P@{k}, with background", f"AP@{k}, with background"] if with_background else []
    searches = [scores, with_background] if with_background else [scores]
    rows = {name: [search.per_class[name] for search in searches] for name in scores.per_class}
    rows["all"] = [vars(search) for search in searches]
    lines = [f"| class | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{values[key]:.3f}" for values in row for key in ("p_at_k", "ap_at_k")]
        lines.append(f"| {name.replace('|', chr(92) + '|')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _write_outcome(
    run: Run,
    recipe: Recipe,
    trained: "TrainedForClasses | TrainedForSearch",
    best: int,
    paragraphs: Sequence[str],
    scores: dict[str, Any],
    panels: "Panels",
) -> dict[str, Any]:
    """Write network, curves and report into the run's folder; returns the result.

    The result is written last: a run with a result has ended.
    """
    from training.curves import draw_curves  # noqa: PLC0415 -- takes a second to import

    architecture = trained.architecture
    if run.about["backend"] != TENSORFLOW:  # the export is then held to what this library makes of the network
        golden.write(run.folder, architecture.input_size, network_embed(architecture, trained.network))
    trained.network.save_weights(run.path("network.part.weights.h5"))
    run.path("network.part.weights.h5").replace(run.path("network.weights.h5"))
    run.write("architecture.json", json.dumps(architecture.to_json(), indent=2).encode())
    draw_curves(trained.history, best, run.folder.name, run.path("curves.png"), panels)
    text = [f"# {recipe.name} on {recipe.backbone}", *paragraphs, "![by epoch](curves.png)"]
    run.write("report.md", "\n\n".join(text).encode() + b"\n")
    result = {
        "recipe": recipe.name,
        "backbone": recipe.backbone,
        "epochs": len(trained.history),
        "best_epoch": best + 1,
        **scores,
        "report": trained.report.to_json(),
        "history": trained.history,
    }
    run.write("report.json", json.dumps(result, indent=2).encode())
    run.clear()
    return result
