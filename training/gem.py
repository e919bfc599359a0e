"""Generalised-mean pooling as a Keras layer."""

from typing import Any

import keras

_LEAST = 1e-6  # activations are raised to this: at 0 the root has no gradient


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
        return ops.power(ops.mean(ops.power(ops.maximum(x, _LEAST), self.p), axis=(1, 2)), 1 / self.p)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make such a layer."""
        return {**super().get_config(), "p": self.start, "learned": self.learned}
