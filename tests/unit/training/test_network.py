"""Architectures: what they say, what is refused, and the networks that are built of them."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from shared.errors import Invalid, NotFound
from tests.support.paths import ROOT
from training.backbones import BACKBONES, EFFICIENTNET_LITE2, RESNET50
from training.network import (
    Architecture,
    build_network,
    fit_projection,
    fit_whitening,
    load_network,
    network_embed,
    served,
)
from training.pretrained import Imagenet, RandomWeights, WeightsFile, weights_named
from training.weights import WeightsError

EMBEDDING = ({"dense": 32, "activation": "relu"}, {"dropout": 0.5}, {"dense": 16}, {"whiten": 8})
SMALL = Architecture("efficientnet-lite0", 64, 80, "gem", EMBEDDING, normalised=False)


def test_an_architecture_comes_back_from_json() -> None:
    for architecture in (SMALL, *(Architecture.plain(backbone) for backbone in BACKBONES.values())):
        assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture


def test_the_dimension_is_that_of_the_last_layer_that_has_one() -> None:
    assert SMALL.dim == 8
    assert Architecture.plain(RESNET50).dim == 2048
    assert Architecture("resnet50", 64, 64, embedding=({"dense": 5}, {"dropout": 0.1})).dim == 5


def test_off_the_shelf_is_what_the_backbone_was_trained_with() -> None:
    found = Architecture.plain(EFFICIENTNET_LITE2)
    assert (found.input_size, found.shorter_side, found.pooling, found.normalised) == (260, 260, "mean", True)


@pytest.mark.parametrize(
    "layer",
    [
        {},
        {"dense": 0},
        {"dense": True},
        {"dense": 2.0},
        {"dense": 10**6},
        {"dense": 8, "activation": "softmax"},
        {"dense": 8, "bias": False},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": "half"},
        {"dropout": 0.5, "seed": 1},
        {"whiten": 0},
        {"whiten": 8, "activation": "relu"},
        {"whiten": 2049},
        {"pool": 3},
        {"dense": 8, "dropout": 0.5},
        {"project": 0},
        {"project": 8, "whiten": 8},
        {"project": 2049},
        {"heads": 0, "of": [{"dense": 8}]},
        {"heads": True, "of": [{"dense": 8}]},
        {"heads": 65, "of": [{"dense": 8}]},
        {"heads": 2},
        {"heads": 2, "of": {"dense": 8}},
        {"heads": 2, "of": [{"dense": 8}], "seed": 1},
    ],
)
def test_a_layer_that_does_not_fit_is_named(layer: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        Architecture("resnet50", 64, 64, embedding=(layer,))
    assert str(layer) in str(caught.value)


def test_whitening_cannot_widen() -> None:
    with pytest.raises(Invalid, match="cannot whiten 8 dimensions"):
        Architecture("resnet50", 64, 64, embedding=({"dense": 8}, {"whiten": 9}))


def test_heads_stand_side_by_side_each_of_length_1(images: Any) -> None:
    layers = ({"standardise": True}, {"heads": 3, "of": [{"dense": 8, "activation": "relu"}, {"dense": 5}]})
    architecture = Architecture("efficientnet-lite0", 64, 64, embedding=(*layers, {"project": 4}))
    assert (architecture.dim, Architecture("efficientnet-lite0", 64, 64, embedding=layers).dim) == (4, 15)
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


def test_a_projection_keeps_inner_products_as_well_as_can_be() -> None:
    rng = np.random.default_rng(6)
    flat = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 12))
    kernel = fit_projection(flat, 3)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(3), atol=1e-6)
    np.testing.assert_allclose((flat @ kernel) @ (flat @ kernel).T, flat @ flat.T, rtol=1e-4, atol=1e-3)
    values = rng.normal(size=(200, 12)) * np.arange(1, 13)
    singular = np.linalg.svd(values, compute_uv=False)
    lost = values - values @ fit_projection(values, 5) @ fit_projection(values, 5).T
    np.testing.assert_allclose(np.square(lost).sum(), np.square(singular[5:]).sum(), rtol=1e-5)


def test_other_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(NotFound, match="no backbone is named 'resnet'"):
        Architecture("resnet", 64, 64)
    with pytest.raises(NotFound, match="no pooling is named 'median'"):
        Architecture("resnet50", 64, 64, "median")
    with pytest.raises(Invalid, match="16 pixels is too small"):
        Architecture("resnet50", 16, 64)
    with pytest.raises(Invalid, match="shorter_side is 60, expected at least input_size, 64"):
        Architecture("resnet50", 64, 60)


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": "64"},
        {"input_size": True},
        {"embedding": {"dense": 3}},
        {"normalised": 1},
        {"backbone": None},
        {"more": 1},
    ],
)
def test_json_of_another_kind_is_refused(change: Mapping[str, object]) -> None:
    with pytest.raises(Invalid, match="architecture"):
        Architecture.from_json({**SMALL.to_json(), **change})


def test_json_that_lacks_something_is_refused() -> None:
    lacking = SMALL.to_json()
    del lacking["pooling"]
    values: tuple[object, ...] = (lacking, [], None, "resnet50")
    for value in values:
        with pytest.raises(Invalid, match="expected an object of backbone, input_size"):
            Architecture.from_json(value)


def test_reading_an_architecture_takes_no_tensorflow() -> None:
    code = (
        "import sys; from training.network import Architecture; from training.backbones import RESNET50; "
        "Architecture.from_json(Architecture.plain(RESNET50).to_json()); "
        "assert not {'tensorflow', 'keras', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return build_network(SMALL, RandomWeights(3))


@pytest.fixture(scope="module")
def images() -> Any:
    return np.random.default_rng(1).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)


def test_a_network_is_its_backbone_pooled_and_projected(network: keras.Model, images: Any) -> None:
    assert (network.input_shape, network.output_shape) == ((None, 64, 64, 3), (None, 8))
    backbone = BACKBONES[SMALL.backbone].build(RandomWeights(3), input_size=64)
    feature_map = np.asarray(backbone(images, training=False), np.float64)
    pooled = np.cbrt((feature_map**3).mean(axis=(1, 2)))
    (first, bias), (second, more), (whiten, offset) = (
        network.get_layer(f"embedding_{number}").get_weights() for number in (0, 2, 3)
    )
    expected = (np.maximum(pooled @ first + bias, 0) @ second + more) @ whiten + offset
    np.testing.assert_allclose(network(images, training=False), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 0


def test_everything_drawn_comes_from_the_seed(network: keras.Model) -> None:
    keras.utils.set_random_seed(99)
    again = build_network(SMALL, RandomWeights(3)).get_weights()
    assert all(np.array_equal(one, two) for one, two in zip(network.get_weights(), again, strict=True))


def test_what_is_served_computes_the_same_without_norms(network: keras.Model, images: Any) -> None:
    rng = np.random.default_rng(4)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.8, 1.2, weight.shape) for weight in layer.get_weights()])
    expected = np.asarray(network(images, training=False))
    # Training cuts a network, and puts it into others: that leaves it as it is.
    keras.Model(network.get_layer("conv_head").output, network.output)
    network(keras.Input((64, 64, 3)))
    made = served(SMALL, network)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in made.layers)
    np.testing.assert_allclose(made(images, training=False), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_an_embedding_without_length_is_left_so() -> None:
    architecture = Architecture("efficientnet-lite0", 32, 32, embedding=({"dense": 3},))
    network = build_network(architecture, RandomWeights(1))
    kernel, bias = network.get_layer("embedding_0").get_weights()
    network.get_layer("embedding_0").set_weights([0 * kernel, 0 * bias])
    assert (network_embed(architecture, network)(np.full((2, 32, 32, 3), 9, np.uint8)) == 0).all()


def test_learning_leaves_the_whitening_alone(network: keras.Model) -> None:
    assert network.get_layer("embedding_3").trainable_weights == []
    assert len(network.get_layer("embedding_2").trainable_weights) == 2


def test_a_network_is_loaded_as_it_was_saved(network: keras.Model, images: Any, tmp_path: Path) -> None:
    path = tmp_path / "network.weights.h5"
    network.save_weights(path)
    again = load_network(SMALL, path)
    np.testing.assert_array_equal(again(images, training=False), network(images, training=False))
    wider = Architecture("efficientnet-lite0", 64, 80, "gem", ({"dense": 33}, {"dense": 16}, {"whiten": 8}))
    with pytest.raises(WeightsError, match=r"embedding_0 has the shapes \[\(1280, 32\), \(32,\)\]"):
        load_network(wider, path)
    backbone = BACKBONES[SMALL.backbone].build(WeightsFile(path), input_size=64)  # the head passed over
    np.testing.assert_array_equal(
        backbone.get_layer("conv_head").get_weights()[0], network.get_layer("conv_head").get_weights()[0]
    )


def test_whitened_features_have_unit_covariance() -> None:
    rng = np.random.default_rng(5)
    features = (rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12)) * 10 + 50).astype(np.float32)
    kernel, bias = fit_whitening(features, 5)
    assert (kernel.shape, bias.shape) == ((12, 5), (5,))
    assert kernel.dtype == bias.dtype == np.float32
    whitened = features @ kernel + bias
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(5), atol=1e-3)
    # The axes kept are those of the largest variance: what is left over is the least that five axes can leave.
    centred = features - features.mean(axis=0)
    fitted = whitened @ np.linalg.lstsq(whitened, centred, rcond=None)[0]
    values = np.linalg.eigvalsh(np.cov(features.T))
    assert ((centred - fitted) ** 2).sum() / 399 == pytest.approx(values[:-5].sum(), rel=1e-3)


@pytest.mark.parametrize(
    ("features", "dim", "message"),
    [
        (np.ones((9, 4)), 0, "cannot be whitened to 0"),
        (np.ones((9, 4)), 5, "cannot be whitened to 5"),
        (np.ones(9), 1, "cannot be whitened"),
        (np.ones((9, 4)), 1, "vary along 0 axes"),
        (np.eye(4)[:3], 3, "vary along 2 axes"),
        (np.arange(40.0).reshape(10, 4), 2, "vary along 1 axes"),
    ],
)
def test_features_that_cannot_be_whitened_are_refused(features: Any, dim: int, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        fit_whitening(features, dim)


def test_weights_are_named_as_on_the_command_line(tmp_path: Path) -> None:
    assert weights_named("imagenet", seed=4) == Imagenet()
    assert weights_named("random", seed=4) == RandomWeights(4)
    path = tmp_path / "own.h5"
    with pytest.raises(WeightsError, match=r"no weights file .*own\.h5.*give imagenet, random"):
        weights_named(str(path), seed=4)
    path.write_bytes(b"own")
    assert weights_named(str(path), seed=4) == WeightsFile(path)
