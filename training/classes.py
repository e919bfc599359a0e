"""Fine-tuning for the classes: a head on a pretrained backbone of which a part learns, as the report did it.

What is frozen is computed once for each image and kept in the run's folder, unless pictures are varied. A run that is
killed and started again ends in the same weights: each epoch draws from seeds of its own, and what the optimizer knows
is kept with the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from training.architecture import Architecture
from training.backbones import backbone_named
from training.fitting import Fitting, make_deterministic, seed_dropout
from training.frozen import BATCH, Floats, Tell, forward, frozen_outputs
from training.judging import Classification
from training.labelled import Labelled
from training.network import build_network
from training.pictures import batches
from training.pretrained import Weights
from training.recipes import ClassRecipe
from training.runs import Run


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of a run.

    Attributes:
        network: Pictures, float32 [n, size, size, 3] RGB 0 to 255, to features, float32 [n, dim].
        architecture: What it is built of.
        history: Of each epoch loss and accuracy on the training and the validation images.
        best: The epoch, from 0, whose weights were taken.
        report: On the validation images.
    """

    network: keras.Model
    architecture: Architecture
    history: list[dict[str, float]]
    best: int
    report: Classification


@dataclass(frozen=True, eq=False)
class _Parts:
    """A network cut where it begins to learn.

    Attributes:
        network: All of it, up to the features.
        frozen: Pictures to what the learning part takes; None where all of it learns.
        learning: From there to the probabilities of the classes.
    """

    network: keras.Model
    frozen: keras.Model | None
    learning: keras.Model


def fine_tune(
    run: Run,
    recipe: ClassRecipe,
    weights: Weights,
    training: Labelled,
    validation: Labelled,
    *,
    size: int,
    seed: int,
    tell: Tell,
) -> Trained:
    """Train, or go on training, and judge by the validation images. Pictures are squares of `size` pixels."""
    make_deterministic()
    architecture = Architecture(
        backbone=recipe.backbone,
        input_size=size,
        shorter_side=size,
        pooling=recipe.pooling,
        embedding=(),
        normalised=True,
    )
    keras.utils.set_random_seed(seed)
    parts = _parts(architecture, recipe, weights, len(training.classes), seed)
    parts.learning.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    parts.learning.optimizer.build(parts.learning.trainable_variables)
    source = _Source(run, recipe, parts.frozen, size, seed)
    judged = source.frozen("validation", validation, tell)
    taught = None if recipe.augmented else source.frozen("training", training, tell)
    fitting = Fitting(parts.learning, lambda new, best: new["validation_loss"] < best["validation_loss"])
    fitting.restore(run)
    while not _ended(fitting, recipe):
        epoch = len(fitting.history)
        order = np.random.default_rng([seed, epoch]).permutation(len(training))
        seed_dropout(parts.learning, seed, epoch)
        steps = source.steps(training, taught, order, epoch)
        learned = _learn(parts.learning, steps, training.labels[order], recipe.batch, epoch, recipe.epochs, tell)
        probabilities = _predict(parts.learning, judged)
        fitting.end_epoch(learned | _judge(probabilities, validation.labels))
        fitting.keep(run)
    fitting.take_best()
    report = Classification.of(training.classes, validation.labels, _predict(parts.learning, judged).argmax(axis=1))
    return Trained(parts.network, architecture, fitting.history, fitting.best, report)


def _ended(fitting: Fitting, recipe: ClassRecipe) -> bool:
    """Return whether there is nothing more to learn."""
    epochs = len(fitting.history)
    return epochs >= recipe.epochs or epochs - 1 - fitting.best >= recipe.patience


def _parts(architecture: Architecture, recipe: ClassRecipe, weights: Weights, classes: int, seed: int) -> _Parts:
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
    return _Parts(network, frozen, keras.Model(start, probabilities))


class _Source:
    """Gives the learning part its inputs: outputs of the frozen part, from the run's folder or computed on the way."""

    def __init__(self, run: Run, recipe: ClassRecipe, network: keras.Model | None, size: int, seed: int) -> None:
        self._run, self._recipe, self._network = run, recipe, network
        self._size, self._seed = size, seed

    def frozen(self, name: str, data: Labelled, tell: Tell) -> npt.NDArray[Any]:
        """Return the outputs of the frozen part for all images, [n, …], computed once."""
        return frozen_outputs(self._run, name, self._network, [one.path for one in data.pictures], self._size, tell)

    def steps(
        self, data: Labelled, known: npt.NDArray[Any] | None, order: npt.NDArray[np.int64], epoch: int
    ) -> Iterator[Floats]:
        """Yield the inputs of each step of an epoch."""
        batch = self._recipe.batch
        if known is not None:
            for start in range(0, len(order), batch):
                yield known[order[start : start + batch]].astype(np.float32)
            return
        paths = [data.pictures[place].path for place in order.tolist()]
        seeds = [[self._seed, epoch, place] for place in order.tolist()]
        for pixels in batches(paths, self._size, batch=batch, seeds=seeds):
            yield forward(self._network, pixels)


def _learn(
    model: keras.Model,
    steps: Iterator[Floats],
    labels: npt.NDArray[np.int64],
    batch: int,
    epoch: int,
    epochs: int,
    tell: Tell,
) -> dict[str, float]:
    model.reset_metrics()
    figures: dict[str, Any] = {}
    for number, inputs in enumerate(steps):
        figures = model.train_on_batch(inputs, labels[number * batch : number * batch + len(inputs)], return_dict=True)
        tell(f"epoch {epoch + 1} of at most {epochs}", min(len(labels), (number + 1) * batch), len(labels))
    return {name: float(value) for name, value in figures.items()}


def _predict(model: keras.Model, inputs: npt.NDArray[Any]) -> Floats:
    parts = [
        np.asarray(model.predict_on_batch(inputs[start : start + BATCH].astype(np.float32)))
        for start in range(0, len(inputs), BATCH)
    ]
    return np.concatenate(parts)


def _judge(probabilities: Floats, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "validation_loss": float(-np.log(np.maximum(right, 1e-7)).mean()),
        "validation_accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
    }
