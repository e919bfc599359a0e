"""Folds batch norms into the convolutions before them: the form that is served, the same function in less time."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

_SINGLE = "float32"


class BatchNorm(NamedTuple):
    """A batch norm's parameters, arrays [channels]: y = gamma (x - mean) / sqrt(variance + epsilon) + beta."""

    epsilon: float
    gamma: NDArray[np.float32]
    beta: NDArray[np.float32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


def fold(
    kernel: NDArray[np.float32], bias: NDArray[np.float32] | float, norm: BatchNorm, *, depthwise: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fold a batch norm into the convolution before it.

    With s = gamma / sqrt(variance + epsilon), norm(kernel * x + bias) = (s kernel) * x + (beta + s (bias - mean)).

    Args:
        kernel: [height, width, in, out], or [height, width, channels, 1] if depthwise.
        bias: [out] or [channels], or 0.
        norm: its parameters, [out] or [channels].
        depthwise: whether each input channel has a filter of its own.

    Returns:
        Kernel and bias of the convolution that does both, computed in float64.
    """
    factor = norm.gamma / np.sqrt(norm.variance.astype(np.float64) + norm.epsilon)
    scaled = kernel * (factor[:, None] if depthwise else factor)
    return scaled.astype(np.float32), (norm.beta + factor * (bias - norm.mean)).astype(np.float32)


def folded(network: keras.Model) -> keras.Model:
    """Return a network in single precision that computes what `network` does outside training, its norms folded away.

    A norm is folded where its input is the output of a convolution that nothing else takes.
    """
    return _copied(network, _foldable(network))


def in_single_precision(network: keras.Model) -> keras.Model:
    """Return the network itself if it computes in float32 throughout, or else a copy that does."""
    if all(layer.compute_dtype == _SINGLE for layer in network.layers):
        return network
    return _copied(network, {})


def _foldable(network: keras.Model) -> dict[str, str]:
    """Return the convolutions whose norms can be folded, by the names of the norms."""
    users: dict[int, list[str]] = {}
    for operation in network.operations:
        for tensor in keras.tree.flatten(operation.input):
            users.setdefault(id(tensor), []).append(operation.name)
    makers = {
        id(layer.output): layer.name
        for layer in network.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
        and layer.activation is keras.activations.linear
    }
    return {
        layer.name: makers[id(layer.input)]
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.scale
        and layer.center
        and id(layer.input) in makers
        and users[id(layer.input)] == [layer.name]
    }


def _copied(network: keras.Model, foldable: Mapping[str, str]) -> keras.Model:
    """Return a copy in single precision in which the norms of `foldable` are part of their convolutions."""
    norms = {conv: norm for norm, conv in foldable.items()}

    def copy(operation: Any) -> Any:
        config = operation.get_config()
        if isinstance(operation, keras.Layer):
            config["dtype"] = _SINGLE
        if operation.name in norms:
            config["use_bias"] = True
        return type(operation).from_config(config)

    def call(operation: Any, *inputs: Any, **options: Any) -> Any:
        return inputs[0] if operation.name in foldable else operation(*inputs, **options)

    made = keras.models.clone_model(network, clone_function=copy, call_function=call)
    for layer in made.layers:
        if not layer.weights:
            continue
        arrays = network.get_layer(layer.name).get_weights()
        if layer.name in norms:
            kernel, *bias = arrays
            norm = network.get_layer(norms[layer.name])
            parameters = BatchNorm(norm.epsilon, *norm.get_weights())
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            arrays = fold(kernel, bias[0] if bias else 0.0, parameters, depthwise=depthwise)
        layer.set_weights(arrays)
    return made
