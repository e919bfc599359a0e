"""Folding batch norms away changes what is computed in rounding alone, and leaves what cannot be folded."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from training.folding import BatchNorm, fold, folded, in_single_precision

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_folded_convolution_computes_what_convolution_and_norm_do(*, depthwise: bool, biased: bool) -> None:
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=(3, 3, 4, 1) if depthwise else (3, 3, 4, 6)).astype(np.float32)
    channels = 4 if depthwise else 6
    norm = BatchNorm(1e-3, *rng.uniform(0.5, 2, (4, channels)).astype(np.float32))
    bias = rng.normal(size=channels).astype(np.float32) if biased else 0.0
    x = rng.normal(size=(2, 9, 9, 4)).astype(np.float32)
    convolve = keras.ops.depthwise_conv if depthwise else keras.ops.conv
    plain = np.asarray(convolve(x, kernel, padding="same")) + bias
    expected = (plain - norm.mean) / np.sqrt(norm.variance + 1e-3) * norm.gamma + norm.beta

    made, added = fold(kernel, bias, norm, depthwise=depthwise)
    assert made.dtype == added.dtype == np.float32
    np.testing.assert_allclose(np.asarray(convolve(x, made, padding="same")) + added, expected, atol=1e-4)


Tail = Callable[[keras.KerasTensor], keras.KerasTensor]


def small(tail: Tail, *, activation: str | None = None) -> keras.Model:
    """Return a network of a convolution and what `tail` makes of it, whose norms are not the identity."""
    image = keras.Input((8, 8, 3))
    made = keras.layers.Conv2D(4, 3, activation=activation, name="conv")(image)
    network = keras.Model(image, tail(made))
    rng = np.random.default_rng(5)
    for layer in network.layers:
        layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.get_weights()])
    return network


def norms(network: keras.Model) -> list[str]:
    return [layer.name for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]


def straight(x: keras.KerasTensor) -> keras.KerasTensor:
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="first")(x))
    x = keras.layers.DepthwiseConv2D(3, use_bias=False)(x)
    return keras.layers.BatchNormalization(name="second", epsilon=0.1)(keras.ops.flip(x, axis=-1))


def shared(x: keras.KerasTensor) -> keras.KerasTensor:
    """A convolution whose output goes two ways."""
    return keras.layers.Add()([x, keras.layers.BatchNormalization(name="first")(x)])


def shared_with_an_operation(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.Add()([keras.ops.flip(x, axis=1), keras.layers.BatchNormalization(name="first")(x)])


def alone(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.BatchNormalization(name="first")(x)


@pytest.mark.parametrize(
    ("tail", "activation", "left"),
    [
        (straight, None, ["second"]),
        (alone, None, []),
        (alone, "relu", ["first"]),
        (shared, None, ["first"]),
        (shared_with_an_operation, None, ["first"]),
    ],
)
def test_norms_are_folded_where_that_is_right_and_only_there(
    tail: Tail, activation: str | None, left: list[str]
) -> None:
    network = small(tail, activation=activation)
    images = np.random.default_rng(6).normal(size=(3, 8, 8, 3)).astype(np.float32)
    before = np.asarray(network(images, training=False))
    made = folded(network)
    assert norms(made) == left
    np.testing.assert_allclose(made(images, training=False), before, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(network(images, training=False), before)


def test_a_network_in_half_precision_is_served_in_single() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = small(straight)
    finally:
        keras.config.set_dtype_policy(before)
    images = np.random.default_rng(7).normal(size=(3, 8, 8, 3)).astype(np.float32)
    single, made = in_single_precision(network), folded(network)
    assert {layer.compute_dtype for model in (single, made) for layer in model.layers} == {"float32"}
    np.testing.assert_allclose(made(images, training=False), single(images, training=False), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(
        np.asarray(network(images, training=False), np.float32), single(images, training=False), rtol=0.05, atol=0.5
    )
    assert in_single_precision(single) is single
