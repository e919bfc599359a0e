"""Fitting, epoch by epoch, so that a run that is killed and started again ends in the same weights.

Each epoch draws from seeds of its own, and the state of the optimizer is kept with the weights.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from training.runs import Run

_DECIMALS = 6

EpochMetrics = dict[str, float]


class Fitting:
    """The epochs of a run so far, and the weights of the best of them."""

    def __init__(self, model: keras.Model, is_better: Callable[[EpochMetrics, EpochMetrics], bool]) -> None:
        """Begin without epochs; `is_better` says whether a new epoch's metrics beat those of the best before it."""
        self._model, self._is_better = model, is_better
        self.history: list[EpochMetrics] = []
        self.best = -1
        self._best_weights: list[npt.NDArray[Any]] = []

    def end_epoch(self, metrics: EpochMetrics) -> None:
        """Add an epoch to the history, and remember the weights if it is the best so far."""
        self.history.append({name: round(value, _DECIMALS) for name, value in metrics.items()})
        if self.best < 0 or self._is_better(self.history[-1], self.history[self.best]):
            self.best = len(self.history) - 1
            self._best_weights = [np.array(weight) for weight in self._model.get_weights()]

    def take_best(self) -> None:
        """Give the model the weights of the best epoch."""
        self._model.set_weights(self._best_weights)

    def save(self, run: Run) -> None:
        """Write all that the next epoch depends on into the run's folder."""
        optimizer = [_as_array(variable) for variable in self._model.optimizer.variables]
        arrays = _numbered("weight", self._model.get_weights()) | _numbered("best", self._best_weights)
        arrays |= _numbered("optimizer", optimizer)
        run.save(arrays, {"history": self.history, "best": self.best})

    def restore(self, run: Run) -> None:
        """Go on from what was saved last, if anything was."""
        saved = run.saved()
        if saved is None:
            return
        arrays, values = saved
        self.history, self.best = values["history"], values["best"]
        self._model.set_weights(_in_order("weight", arrays))
        self._best_weights = _in_order("best", arrays)
        for variable, value in zip(self._model.optimizer.variables, _in_order("optimizer", arrays), strict=True):
            variable.assign(value)


def make_deterministic() -> None:
    """Have the same computation give the same numbers each time."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415 -- Keras runs on others too

        tf.config.experimental.enable_op_determinism()


def seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Let what dropout draws in an epoch depend on nothing but the seed and the epoch."""
    if keras.backend.backend() == "torch":
        # There, Keras' dropout draws from the state that all of the process shares, and not from that of its layer.
        # Elsewhere that state is left alone: TensorFlow would prepare every graph anew, which takes seconds an epoch.
        keras.utils.set_random_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    for number, layer in enumerate(dropouts):
        state = np.random.default_rng([seed, epoch, number]).integers(0, 2**31, 2)
        layer.seed_generator.state.assign(state.astype("uint32"))


def _as_array(variable: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = keras.ops.convert_to_numpy(variable)
    return array


def _numbered(name: str, arrays: Sequence[npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {f"{name}-{number}": np.asarray(array) for number, array in enumerate(arrays)}


def _in_order(name: str, arrays: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    count = sum(key.startswith(f"{name}-") for key in arrays)
    return [arrays[f"{name}-{number}"] for number in range(count)]
