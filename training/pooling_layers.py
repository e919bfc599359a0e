"""The poolings that Keras has no layer for."""

from collections.abc import Sequence
from typing import Any

import keras

_ADDED_VARIANCE = 1e-8  # at a variance of 0 the root has no gradient
_LEAST_ACTIVATION = 1e-6  # at 0 the root has no gradient


@keras.saving.register_keras_serializable("artseek")
class GeM(keras.Layer):  # type: ignore[misc]
    """Pools each channel x over a feature map to mean(x^p)^(1/p).

    Radenovic et al. 2018, https://arxiv.org/abs/1711.02512. p = 1 is the mean; the larger p, the closer to the maximum.
    Takes float [batch, height, width, channels], of which negative values count as nothing; gives [batch, channels].
    """

    def __init__(self, p: float = 3.0, *, learned: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.start, self.learned = p, learned
        self.p: Any = None

    def build(self, _shape: Any) -> None:
        """Make the exponent, one for all channels."""
        self.p = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(self.start), trainable=self.learned, name="p"
        )

    def call(self, x: Any) -> Any:
        """Pool a batch of feature maps."""
        ops = keras.ops
        return ops.power(ops.mean(ops.power(ops.maximum(x, _LEAST_ACTIVATION), self.p), axis=(1, 2)), 1 / self.p)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make such a layer."""
        return {**super().get_config(), "p": self.start, "learned": self.learned}


@keras.saving.register_keras_serializable("artseek")
class Statistics(keras.Layer):  # type: ignore[misc]
    """Pools the channels of several feature maps to their means and standard deviations.

    Early stages see strokes and grain, late stages see things: what tells a drawing from an engraving is in the early
    ones. The statistics of a layer's channels stand for style (Huang and Belongie 2017, https://arxiv.org/abs/1703.06868).
    Takes float [batch, height, width, channels] of each map; gives [batch, 2 × the sum of channels], map by map.
    """

    def call(self, maps: Sequence[Any]) -> Any:
        """Pool a batch of the maps of each stage."""
        ops = keras.ops
        parts = []
        for feature_map in maps:
            x = ops.cast(feature_map, self.compute_dtype)
            parts += [ops.mean(x, axis=(1, 2)), ops.sqrt(ops.var(x, axis=(1, 2)) + _ADDED_VARIANCE)]
        return ops.concatenate(parts, axis=-1)
