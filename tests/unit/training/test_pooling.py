"""Pooling, held against the formulas in numpy."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from shared.errors import NotFound
from training.pooling import POOLINGS, STAGES, pooling_named
from training.pooling_layers import GeM

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]


@pytest.fixture
def feature_map() -> Array:
    """A feature map of a network that ends in a ReLU: [3, 5, 4, 7], nothing negative and zeros among it."""
    values = np.random.default_rng(1).normal(size=(3, 5, 4, 7)).astype(np.float32)
    values[0, :, :, 2] = -1
    return np.maximum(values, 0)


def test_mean_and_maximum_are_those_of_a_channel(feature_map: Array) -> None:
    np.testing.assert_allclose(pooling_named("mean")(feature_map), feature_map.mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(pooling_named("max")(feature_map), feature_map.max(axis=(1, 2)))


@pytest.mark.parametrize("p", [1.0, 2.5, 3.0, 6.0])
def test_the_generalised_mean_is_that_of_a_channel(feature_map: Array, p: float) -> None:
    expected = (feature_map.astype(np.float64) ** p).mean(axis=(1, 2)) ** (1 / p)
    np.testing.assert_allclose(GeM(p)(feature_map), expected, rtol=1e-4, atol=2e-6)


def test_the_exponent_is_3_and_learned_or_stays() -> None:
    x = np.random.default_rng(2).uniform(0, 5, (2, 3, 3, 4)).astype(np.float32)
    expected = np.cbrt((x.astype(np.float64) ** 3).mean(axis=(1, 2)))
    for name, learned in (("gem", 1), ("gem-fixed", 0)):
        layer = pooling_named(name)
        np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
        assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == (learned, 1 - learned)


def test_the_exponent_learns_though_a_channel_is_silent(feature_map: Array) -> None:
    image = keras.Input(feature_map.shape[1:])
    network = keras.Model(image, pooling_named("gem")(image))
    network.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    network.fit(feature_map, feature_map.max(axis=(1, 2)), epochs=20, verbose=0)
    [p] = network.get_weights()
    assert p > 3.1  # closer to the maximum; a gradient that is not a number would have spread


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_is_computed_in_single_precision_and_comes_back_from_its_configuration(name: str) -> None:
    layer = pooling_named(name)
    assert layer.name == "pooling"
    x: Any = np.full((1, 4, 4, 2), 200, np.float16)  # whose cube half precision does not hold
    x = [x] if name == STAGES else x
    found = np.asarray(layer(x))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, :2], 200, rtol=1e-5)
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    np.testing.assert_array_equal(again(x), found)


def test_the_stages_give_mean_and_deviation_of_their_channels(feature_map: Array) -> None:
    other = feature_map[:, ::2, ::2, :1] - 3
    parts = [one(some, axis=(1, 2)) for some in (feature_map, other) for one in (np.mean, np.std)]
    found = np.asarray(pooling_named(STAGES)([feature_map, other]))
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1), rtol=1e-3, atol=2e-4)


def test_an_unknown_pooling_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound, match=r"'median'.*mean, max, gem, gem-fixed"):
        pooling_named("median")
