"""Backbones: what each one computes, held against Keras Applications, and how it begins."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest

from shared.errors import Invalid, NotFound
from tests.support.paths import ROOT
from tests.support.small_backbone import SMALL
from training.architecture import Architecture
from training.backbones import (
    BACKBONES,
    EFFICIENTNET_LITE0,
    EFFICIENTNET_LITE2,
    RESNET50,
    RESNET50V2,
    EfficientNetLite,
    ResNet,
    backbone_named,
)
from training.efficientnet_lite import LITE0, LITE2, Scale, blocks, layer_name
from training.network import build_network, network_embed
from training.pretrained import RandomWeights, WeightsFile
from training.weights import WeightsError

pytestmark = pytest.mark.slow

Images = npt.NDArray[np.float32]


def disturb_norms(network: keras.Model) -> None:
    """Give batch norms something to do: means and variances of a trained network are not 0 and 1."""
    rng = np.random.default_rng(11)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.7, 1.3, weight.shape) for weight in layer.get_weights()])


@pytest.mark.parametrize(
    ("backbone", "published", "preprocess"),
    [
        (RESNET50, keras.applications.ResNet50, keras.applications.resnet50.preprocess_input),
        (RESNET50V2, keras.applications.ResNet50V2, keras.applications.resnet_v2.preprocess_input),
    ],
    ids=["resnet50", "resnet50v2"],
)
def test_a_resnet_gives_the_features_of_keras_applications(
    backbone: ResNet, published: Callable[..., keras.Model], preprocess: Callable[[Images], Images], tmp_path: Path
) -> None:
    reference = published(include_top=False, weights=None, pooling="avg")
    drawn = backbone.build(RandomWeights(7))
    for layer in reference.layers:
        if layer.weights:
            layer.set_weights(drawn.get_layer(layer.name).get_weights())
    disturb_norms(reference)
    path = tmp_path / "own.weights.h5"
    reference.save_weights(path)
    images = np.random.default_rng(8).integers(0, 256, (2, 28, 28, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    expected = np.asarray(reference(preprocess(images.astype(np.float32)), training=False))

    architecture = Architecture.plain(backbone, normalised=False)
    embed = network_embed(architecture, build_network(architecture, WeightsFile(path)))
    found = np.asarray(embed(images))
    assert found.shape == (2, 2048)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    swapped = np.asarray(embed(images[..., ::-1]))
    assert np.abs(swapped - expected).max() > 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_what_it_says(name: str) -> None:
    backbone = backbone_named(name)
    network = backbone.build(RandomWeights(1), input_size=64)
    assert network.input_shape == (None, 64, 64, 3)
    assert network.output_shape == (None, 2, 2, backbone.channels)
    start = network.get_layer(backbone.last_stage)
    # All that the network computes after this layer's input follows from it: fine-tuning can begin here.
    cut = keras.Model(start.input, network.output)
    images = np.random.default_rng(2).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    half = keras.Model(network.input, start.input)(images, training=False)
    np.testing.assert_allclose(cut(half, training=False), network(images, training=False), rtol=1e-5)


@pytest.mark.parametrize(("backbone", "scale"), [(EFFICIENTNET_LITE0, LITE0), (EFFICIENTNET_LITE2, LITE2)])
def test_the_last_stage_of_a_lite_is_the_one_before_its_head(backbone: EfficientNetLite, scale: Scale) -> None:
    assert (backbone.width, backbone.depth) == (scale.width, scale.depth)
    assert backbone.last_stage == layer_name(list(blocks(scale))[-1].units[0].conv)


def test_random_weights_are_those_of_their_seed_and_touch_no_shared_state() -> None:
    keras.utils.set_random_seed(3)
    first = SMALL.build(RandomWeights(5), input_size=32).get_weights()
    keras.utils.set_random_seed(4)
    state = np.random.get_state()[1].tolist()  # type: ignore[index]
    again = SMALL.build(RandomWeights(5), input_size=32).get_weights()
    other = SMALL.build(RandomWeights(6), input_size=32).get_weights()
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index]
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    kernels = [(one, two) for one, two in zip(first, other, strict=True) if one.ndim > 1]
    assert not any(np.array_equal(one, two) for one, two in kernels)
    # He et al.: the variance is 2 / inputs; the stem has 3 x 3 x 3 of them, the depthwise kernel behind it 3 x 3.
    assert first[0].var() == pytest.approx(2 / 27, rel=0.2)
    depthwise = next(kernel for kernel, _ in kernels if kernel.shape == (3, 3, 32, 1))
    assert depthwise.var() == pytest.approx(2 / 9, rel=0.2)


@contextmanager
def policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def test_pixels_are_prepared_in_single_precision_whatever_the_network_computes_in() -> None:
    with policy("mixed_bfloat16"):
        network = RESNET50.build(RandomWeights(1), input_size=32)
    assert network.get_layer("conv1_conv").compute_dtype == "bfloat16"
    prepared = keras.Model(network.input, network.get_layer("preprocessing").output)
    pixels = np.array([200.0, 100.0, 50.0], np.float32) * np.ones((1, 32, 32, 1), np.float32)
    np.testing.assert_allclose(prepared(pixels)[0, 0, 0], [50 - 103.939, 100 - 116.779, 200 - 123.68], rtol=1e-6)


def test_a_small_input_is_refused() -> None:
    with pytest.raises(Invalid, match="31 pixels is too small, expected at least 32"):
        RESNET50.build(RandomWeights(1), input_size=31)


def test_an_unknown_backbone_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound, match=r"'resnet'.*efficientnet-lite0.*resnet50v2"):
        backbone_named("resnet")


def test_a_lite_takes_the_checkpoint_of_its_package_as_a_file(tmp_path: Path) -> None:
    path = EFFICIENTNET_LITE0.packaged.locate()
    network = EFFICIENTNET_LITE0.build(WeightsFile(path), input_size=32)
    stem = EFFICIENTNET_LITE0.packaged.load()["_conv_stem.weight"]
    np.testing.assert_array_equal(network.get_layer("conv_stem").get_weights()[0], stem.transpose(2, 3, 1, 0))

    cut = tmp_path / "cut.pth"
    cut.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"cut\.pth.*truncated"):
        EFFICIENTNET_LITE0.build(WeightsFile(cut), input_size=32)


def test_without_internet_the_published_weights_are_asked_for_as_a_file(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"  # the port of the discard service, where nothing answers
    environment = {**os.environ, "KERAS_HOME": str(tmp_path), "https_proxy": nowhere, "HTTPS_PROXY": nowhere}
    command = [sys.executable, "-m", "training.export", "--out", str(tmp_path / "out"), "--model", "resnet50v2"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "ImageNet weights of resnet50v2 cannot be downloaded" in line
    assert 'keras.applications.ResNet50V2(weights="imagenet")' in line
    assert not list((tmp_path / "out").rglob("saved_model.pb"))
