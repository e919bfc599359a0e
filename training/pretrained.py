"""The weights that a network begins with: ImageNet's, those of a file, or random ones.

They are named here. No file is read and TensorFlow is not imported before a network is built.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from training.weights import WeightsError, sha256_of

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Imagenet:
    """The published weights, learned on ImageNet: of an installed package, or what Keras Applications downloads."""


@dataclass(frozen=True)
class WeightsFile:
    """Weights in a file: a format of Keras, or the PyTorch checkpoint that a backbone's package holds."""

    path: Path

    def about(self) -> dict[str, Any]:
        """Return what identifies these weights, as JSON values.

        Raises:
            WeightsError: the file cannot be read.
        """
        try:
            return {"source": "file", "sha256": sha256_of(self.path)}
        except OSError as error:
            raise WeightsError(f"cannot read the weights {self.path}: {error}") from error


@dataclass(frozen=True)
class RandomWeights:
    """Weights drawn at random, the same ones for the same seed on every machine."""

    seed: int

    def about(self) -> dict[str, Any]:
        """Return what identifies these weights, as JSON values."""
        return {"source": "random", "seed": self.seed}


Weights: TypeAlias = Imagenet | WeightsFile | RandomWeights


def weights_named(text: str, *, seed: int) -> Weights:
    """Return the weights that `text` names: "imagenet", "random" (drawn from `seed`), or the path of a file.

    Raises:
        WeightsError: there is no such file.
    """
    if text == "imagenet":
        return Imagenet()
    if text == "random":
        return RandomWeights(seed)
    path = Path(text)
    if not path.is_file():
        raise WeightsError(f"there is no weights file {text!r}; give imagenet, random, or the path of a file")
    return WeightsFile(path)


def randomise(layers: Iterable["keras.Layer"], seed: int) -> None:
    """Draw the kernels of freshly made layers anew, normally distributed with variance 2 / inputs of an output.

    He et al. 2015, https://arxiv.org/abs/1502.01852. Biases and batch norms stay as they are made: the identity. Layers
    that do not learn are left alone. Keras' own initialisers would draw from a state that all of a program shares.
    """
    import keras  # noqa: PLC0415, it imports TensorFlow

    rng = np.random.default_rng(seed)
    for layer in layers:
        for weight in layer.trainable_weights:
            if len(weight.shape) < 2:
                continue
            inputs = weight.shape[:2] if isinstance(layer, keras.layers.DepthwiseConv2D) else weight.shape[:-1]
            values = rng.standard_normal(weight.shape, np.float32)
            weight.assign(values * np.float32(np.sqrt(2 / np.prod(inputs))))
