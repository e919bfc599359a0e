"""Fine-tuning for the classes: a head on a pretrained backbone of which a part learns, as the report did it.

What is frozen is computed once for each image and kept in the run's folder, unless pictures are varied. A run that is
killed and started again ends in the same weights: each epoch draws from seeds of its own, and what the optimizer knows
is kept with the weights.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from training.backbones import backbone_named
from training.judging import Classification
from training.labelled import Labelled
from training.network import Architecture, build_network
from training.pictures import batches
from training.pretrained import Weights
from training.recipes import Recipe
from training.runs import Outputs, Run

Tell = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is, and how much there is."""

_FROZEN_BATCH = 32
_HALF = 3e4  # outputs beyond this are kept in single precision
_DECIMALS = 6

Floats = npt.NDArray[np.float32]


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
    recipe: Recipe,
    weights: Weights,
    training: Labelled,
    validation: Labelled,
    *,
    size: int,
    seed: int,
    tell: Tell,
) -> Trained:
    """Train, or go on training, and judge by the validation images. Pictures are squares of `size` pixels."""
    _make_deterministic()
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
    source = _Source(run, recipe, parts.frozen, size, seed, tell)
    judged = source.frozen("validation", validation)
    taught = None if recipe.augmented else source.frozen("training", training)
    fitting = _Fitting(parts.learning)
    fitting.restore(run)
    while not fitting.ended(recipe):
        epoch = len(fitting.history)
        order = np.random.default_rng([seed, epoch]).permutation(len(training))
        _seed_dropout(parts.learning, seed, epoch)
        steps = source.steps(training, taught, order, epoch)
        learned = _learn(parts.learning, steps, training.labels[order], recipe.batch, epoch, recipe.epochs, tell)
        probabilities = _predict(parts.learning, judged)
        fitting.end_epoch(learned | _judge(probabilities, validation.labels))
        fitting.keep(run)
    fitting.take_best()
    report = Classification.of(training.classes, validation.labels, _predict(parts.learning, judged).argmax(axis=1))
    return Trained(parts.network, architecture, fitting.history, fitting.best, report)


def _make_deterministic() -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415 -- Keras runs on others too

        tf.config.experimental.enable_op_determinism()


def _parts(architecture: Architecture, recipe: Recipe, weights: Weights, classes: int, seed: int) -> _Parts:
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
            features = keras.layers.Dense(layer["dense"], activation=layer["activation"])(features)
    # In single precision whatever the rest is computed in, since the loss takes its logarithm.
    probabilities = keras.layers.Dense(classes, activation="softmax", dtype="float32")(features)
    frozen = None if recipe.unfrozen == "all" else keras.Model(network.input, start)
    return _Parts(network, frozen, keras.Model(start, probabilities))


class _Source:
    """Gives the learning part its inputs: outputs of the frozen part, from the run's folder or computed on the way."""

    def __init__(self, run: Run, recipe: Recipe, network: keras.Model | None, size: int, seed: int, tell: Tell) -> None:
        self._run, self._recipe, self._network = run, recipe, network
        self._size, self._seed, self._tell = size, seed, tell

    def frozen(self, name: str, data: Labelled) -> npt.NDArray[Any]:
        """Return the outputs of the frozen part for all images, [n, …], computed once."""
        paths = [one.path for one in data.pictures]
        first = self._forward(next(batches(paths[:_FROZEN_BATCH], self._size, batch=_FROZEN_BATCH)))
        dtype = np.float16 if float(np.abs(first).max()) < _HALF else np.float32
        outputs = Outputs(self._run.path(f"frozen-{name}.npy"), (len(data), *first.shape[1:]), dtype)
        for pixels in batches(paths[outputs.count :], self._size, batch=_FROZEN_BATCH):
            outputs.append(self._forward(pixels))
            self._tell(f"frozen part, {name}", outputs.count, len(data))
        return outputs.values

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
            yield self._forward(pixels)

    def _forward(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        images = pixels.astype(np.float32)
        return images if self._network is None else np.asarray(self._network.predict_on_batch(images), np.float32)


class _Fitting:
    """The epochs so far, and the weights of the best of them."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self.history: list[dict[str, float]] = []
        self.best = -1
        self._best_weights: list[npt.NDArray[Any]] = []

    def ended(self, recipe: Recipe) -> bool:
        """Return whether there is nothing more to learn."""
        return len(self.history) >= recipe.epochs or len(self.history) - 1 - self.best >= recipe.patience

    def end_epoch(self, figures: dict[str, float]) -> None:
        self.history.append({name: round(value, _DECIMALS) for name, value in figures.items()})
        if self.best < 0 or figures["validation_loss"] < self.history[self.best]["validation_loss"]:
            self.best = len(self.history) - 1
            self._best_weights = [np.array(weight) for weight in self._model.get_weights()]

    def take_best(self) -> None:
        self._model.set_weights(self._best_weights)

    def keep(self, run: Run) -> None:
        """Note all that the next epoch depends on."""
        arrays = _numbered("weight", self._model.get_weights()) | _numbered("best", self._best_weights)
        arrays |= _numbered("optimizer", [np.asarray(one) for one in self._model.optimizer.variables])
        run.save(arrays, {"history": self.history, "best": self.best})

    def restore(self, run: Run) -> None:
        """Go on from what was noted last, if anything was."""
        saved = run.saved()
        if saved is None:
            return
        arrays, values = saved
        self.history, self.best = values["history"], values["best"]
        self._model.set_weights(_in_order("weight", arrays))
        self._best_weights = _in_order("best", arrays)
        for variable, value in zip(self._model.optimizer.variables, _in_order("optimizer", arrays), strict=True):
            variable.assign(value)


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
        np.asarray(model.predict_on_batch(inputs[start : start + _FROZEN_BATCH].astype(np.float32)))
        for start in range(0, len(inputs), _FROZEN_BATCH)
    ]
    return np.concatenate(parts)


def _judge(probabilities: Floats, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "validation_loss": float(-np.log(np.maximum(right, 1e-7)).mean()),
        "validation_accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
    }


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Let what dropout draws in an epoch depend on nothing else."""
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    for number, layer in enumerate(dropouts):
        state = np.random.default_rng([seed, epoch, number]).integers(0, 2**31, 2)
        layer.seed_generator.state.assign(state.astype("uint32"))


def _numbered(name: str, arrays: Sequence[npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {f"{name}-{number}": np.asarray(array) for number, array in enumerate(arrays)}


def _in_order(name: str, arrays: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    count = sum(key.startswith(f"{name}-") for key in arrays)
    return [arrays[f"{name}-{number}"] for number in range(count)]
