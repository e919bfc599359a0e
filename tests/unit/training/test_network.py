"""Networks: they compute what their architectures say, and are built, saved and served as the same function."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.support.small_backbone import SMALL
from training.architecture import Architecture
from training.network import build_network, load_network, network_embed, served
from training.pretrained import RandomWeights, WeightsFile
from training.principal_axes import fit_projection
from training.weights import WeightsError

pytestmark = pytest.mark.slow

EMBEDDING = ({"dense": 32, "activation": "relu"}, {"dropout": 0.5}, {"dense": 16}, {"whiten": 8})


@pytest.fixture(scope="module")
def architecture(small_backbone: str) -> Architecture:
    return Architecture(small_backbone, 64, 80, "gem", EMBEDDING, normalised=False)


@pytest.fixture(scope="module")
def network(architecture: Architecture) -> keras.Model:
    return build_network(architecture, RandomWeights(3))


@pytest.fixture(scope="module")
def images() -> Any:
    return np.random.default_rng(1).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)


def test_heads_stand_side_by_side_each_of_length_1(small_backbone: str, images: Any) -> None:
    layers = ({"standardise": True}, {"heads": 3, "of": [{"dense": 8, "activation": "relu"}, {"dense": 5}]})
    architecture = Architecture(small_backbone, 64, 64, embedding=(*layers, {"project": 4}))
    assert (architecture.dim, Architecture(small_backbone, 64, 64, embedding=layers).dim) == (4, 15)
    network = build_network(architecture, RandomWeights(3))
    features = np.asarray(keras.Model(network.input, network.get_layer("pooling").output)(images), np.float64)
    expected = []
    for number in range(3):
        (one, bias), (two, more) = (network.get_layer(f"embedding_1_{number}_{k}").get_weights() for k in range(2))
        end = np.maximum(features @ one + bias, 0) @ two + more
        expected.append(end / np.linalg.norm(end, axis=1, keepdims=True))
    found = np.asarray(keras.Model(network.input, network.get_layer("embedding_1").output)(images))
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-3, atol=1e-4)
    assert not np.allclose(expected[0], expected[1], atol=0.1)
    kernel = fit_projection(np.random.default_rng(5).normal(size=(40, 15)), 4)
    network.get_layer("embedding_2").set_weights([kernel])
    np.testing.assert_allclose(network(images), found @ kernel, rtol=1e-4, atol=1e-5)
    assert len(network.get_layer("embedding_2").trainable_weights) == 0


def test_a_network_is_its_backbone_pooled_and_projected(network: keras.Model, images: Any) -> None:
    assert (network.input_shape, network.output_shape) == ((None, 64, 64, 3), (None, 8))
    backbone = SMALL.build(RandomWeights(3), input_size=64)
    feature_map = np.asarray(backbone(images, training=False), np.float64)
    pooled = np.cbrt((feature_map**3).mean(axis=(1, 2)))
    (first, bias), (second, more), (whiten, offset) = (
        network.get_layer(f"embedding_{number}").get_weights() for number in (0, 2, 3)
    )
    expected = (np.maximum(pooled @ first + bias, 0) @ second + more) @ whiten + offset
    np.testing.assert_allclose(network(images, training=False), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 0


def test_everything_drawn_comes_from_the_seed(architecture: Architecture, network: keras.Model) -> None:
    keras.utils.set_random_seed(99)
    again = build_network(architecture, RandomWeights(3)).get_weights()
    assert all(np.array_equal(one, two) for one, two in zip(network.get_weights(), again, strict=True))


def test_what_is_served_computes_the_same_without_norms(
    architecture: Architecture, network: keras.Model, images: Any
) -> None:
    rng = np.random.default_rng(4)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.8, 1.2, weight.shape) for weight in layer.get_weights()])
    expected = np.asarray(network(images, training=False))
    # Training cuts a network, and puts it into others: that leaves it as it is.
    keras.Model(network.get_layer("conv_head").output, network.output)
    network(keras.Input((64, 64, 3)))
    made = served(architecture, network)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in made.layers)
    np.testing.assert_allclose(made(images, training=False), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_an_embedding_without_length_is_left_so(small_backbone: str) -> None:
    architecture = Architecture(small_backbone, 32, 32, embedding=({"dense": 3},))
    network = build_network(architecture, RandomWeights(1))
    kernel, bias = network.get_layer("embedding_0").get_weights()
    network.get_layer("embedding_0").set_weights([0 * kernel, 0 * bias])
    assert (network_embed(architecture, network)(np.full((2, 32, 32, 3), 9, np.uint8)) == 0).all()


def test_learning_leaves_the_whitening_alone(network: keras.Model) -> None:
    assert network.get_layer("embedding_3").trainable_weights == []
    assert len(network.get_layer("embedding_2").trainable_weights) == 2


def test_a_network_is_loaded_as_it_was_saved(
    architecture: Architecture, network: keras.Model, images: Any, tmp_path: Path
) -> None:
    path = tmp_path / "network.weights.h5"
    network.save_weights(path)
    again = load_network(architecture, path)
    np.testing.assert_array_equal(again(images, training=False), network(images, training=False))
    wider = replace(architecture, embedding=({"dense": 33}, {"dense": 16}, {"whiten": 8}))
    with pytest.raises(WeightsError, match=r"embedding_0 has the shapes \[\(1280, 32\), \(32,\)\]"):
        load_network(wider, path)
    backbone = SMALL.build(WeightsFile(path), input_size=64)  # the head passed over
    np.testing.assert_array_equal(
        backbone.get_layer("conv_head").get_weights()[0], network.get_layer("conv_head").get_weights()[0]
    )
