"""Fine-tuning for the classes: a head on a pretrained backbone of which a part learns, as the report did it.

The frozen part's outputs are computed once for each image and kept in the run's folder, unless images are augmented. A
run that is killed and started again ends in the same weights: see `training.fitting`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from training.architecture import Architecture
from training.backbones import backbone_named
from training.batches import batches
from training.classification import ClassificationReport
from training.fitting import EpochMetrics, Fitting, make_deterministic, seed_dropout
from training.frozen_outputs import BATCH, Floats, OnProgress, Stored, predict, stored_outputs
from training.labelled_images import LabelledImages, TrainingData
from training.network import build_network
from training.pretrained import Weights
from training.recipes import ClassRecipe
from training.runs import Run

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrainedForClasses:
    """The outcome of a run.

    Attributes:
        network: From images, float32 [n, size, size, 3] RGB 0 to 255, to features, float32 [n, dim].
        architecture: The network's.
        history: Loss and accuracy on the training and the validation images, of each epoch.
        best: The epoch, from 0, whose weights were taken.
        report: On the validation images.
    """

    network: keras.Model
    architecture: Architecture
    history: list[EpochMetrics]
    best: int
    report: ClassificationReport


@dataclass(frozen=True, eq=False)
class _DividedNetwork:
    """A network, divided where it begins to learn.

    Attributes:
        network: All of it, up to the features.
        frozen: From images to what the learning part takes; None where all of it learns.
        learning: From there to the probabilities of the classes.
    """

    network: keras.Model
    frozen: keras.Model | None
    learning: keras.Model


def fine_tune(
    run: Run,
    recipe: ClassRecipe,
    weights: Weights,
    data: TrainingData,
    *,
    size: int,
    seed: int,
    on_progress: OnProgress,
) -> TrainedForClasses:
    """Train, or go on training, and judge by the validation images.

    Args:
        run: Where what is computed is kept.
        recipe: How to train.
        weights: What the backbone begins with.
        data: The images; no background is learned from.
        size: Side of the images in pixels.
        seed: Of all that is drawn.
        on_progress: Told how much is done.
    """
    make_deterministic()
    training, validation = data.training, data.validation
    architecture = Architecture(recipe.backbone, size, size, recipe.pooling)
    keras.utils.set_random_seed(seed)
    divided = _divided(architecture, recipe, weights, len(training.classes), seed)
    learning = divided.learning
    learning.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    learning.optimizer.build(learning.trainable_variables)
    inputs = _Inputs(run, recipe, divided.frozen, size, seed, on_progress)
    validation_inputs = inputs.stored("validation", validation)
    training_inputs = None if recipe.augmented else inputs.stored("training", training)
    fitting = Fitting(learning, lambda new, best: new["validation_loss"] < best["validation_loss"])
    fitting.restore(run)
    while not _has_ended(fitting, recipe):
        epoch = len(fitting.history)
        order = np.random.default_rng([seed, epoch]).permutation(len(training))
        seed_dropout(learning, seed, epoch)
        steps = inputs.steps(training, training_inputs, order, epoch)
        metrics = _run_epoch(learning, steps, training.labels[order], recipe, epoch, on_progress)
        metrics |= _validation_metrics(_probabilities(learning, validation_inputs), validation.labels)
        fitting.end_epoch(metrics)
        fitting.save(run)
    fitting.take_best()
    predicted = _probabilities(learning, validation_inputs).argmax(axis=1)
    report = ClassificationReport.of(training.classes, validation.labels, predicted)
    return TrainedForClasses(divided.network, architecture, fitting.history, fitting.best, report)


def _has_ended(fitting: Fitting, recipe: ClassRecipe) -> bool:
    """Return whether all epochs were run, or too many of them without a lower validation loss."""
    epochs = len(fitting.history)
    return epochs >= recipe.epochs or epochs - 1 - fitting.best >= recipe.patience


def _divided(
    architecture: Architecture, recipe: ClassRecipe, weights: Weights, classes: int, seed: int
) -> _DividedNetwork:
    network = build_network(architecture, weights)
    if recipe.unfrozen == "all":
        start = network.input
    elif recipe.unfrozen == "last stage":
        start = network.get_layer(backbone_named(recipe.backbone).last_stage).input
    else:
        start = network.output
    features = network.output
    for number, layer in enumerate(recipe.head):
        if "dropout" in layer:
            features = keras.layers.Dropout(layer["dropout"], seed=seed + number)(features)
        else:
            features = keras.layers.Dense(layer["dense"], activation=layer.get("activation"))(features)
    # In single precision whatever the rest is computed in, since the loss takes its logarithm.
    probabilities = keras.layers.Dense(classes, activation="softmax", dtype="float32")(features)
    frozen = None if recipe.unfrozen == "all" else keras.Model(network.input, start)
    return _DividedNetwork(network, frozen, keras.Model(start, probabilities))


class _Inputs:
    """What the learning part takes: outputs of the frozen part, from the run's folder or computed on the way."""

    def __init__(
        self,
        run: Run,
        recipe: ClassRecipe,
        frozen: keras.Model | None,
        size: int,
        seed: int,
        on_progress: OnProgress,
    ) -> None:
        self._run, self._recipe, self._frozen = run, recipe, frozen
        self._size, self._seed, self._on_progress = size, seed, on_progress

    def stored(self, name: str, data: LabelledImages) -> Stored:
        """Return the outputs of the frozen part for all images, [n, …], computed once."""
        paths = [image.path for image in data.images]
        return stored_outputs(self._run, name, self._frozen, paths, self._size, self._on_progress)

    def steps(self, data: LabelledImages, stored: Stored | None, order: Labels, epoch: int) -> Iterator[Floats]:
        """Yield the inputs of each step of an epoch: of what is stored, or of images that are augmented anew."""
        batch = self._recipe.batch
        if stored is not None:
            for start in range(0, len(order), batch):
                yield stored[order[start : start + batch]].astype(np.float32)
            return
        paths = [data.images[place].path for place in order.tolist()]
        seeds = [[self._seed, epoch, place] for place in order.tolist()]
        for pixels in batches(paths, self._size, batch=batch, seeds=seeds):
            yield predict(self._frozen, pixels)


def _run_epoch(
    model: keras.Model,
    steps: Iterator[Floats],
    labels: Labels,
    recipe: ClassRecipe,
    epoch: int,
    on_progress: OnProgress,
) -> EpochMetrics:
    """Train on the inputs of each step, whose classes are `labels` in this order; returns loss and accuracy."""
    model.reset_metrics()
    metrics: dict[str, Any] = {}
    done = 0
    for inputs in steps:
        metrics = model.train_on_batch(inputs, labels[done : done + len(inputs)], return_dict=True)
        done += len(inputs)
        on_progress(f"epoch {epoch + 1} of at most {recipe.epochs}", done, len(labels))
    return {name: float(value) for name, value in metrics.items()}


def _probabilities(model: keras.Model, inputs: Stored) -> Floats:
    parts = [
        np.asarray(model.predict_on_batch(inputs[start : start + BATCH].astype(np.float32)))
        for start in range(0, len(inputs), BATCH)
    ]
    return np.concatenate(parts)


def _validation_metrics(probabilities: Floats, labels: Labels) -> EpochMetrics:
    of_the_class = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "validation_loss": float(-np.log(np.maximum(of_the_class, 1e-7)).mean()),
        "validation_accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
    }
