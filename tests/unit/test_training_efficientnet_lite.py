"""EfficientNet-Lite in Keras, held against a second implementation in numpy and against photographs."""

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image

from training import efficientnet_lite
from training.backbones import EFFICIENTNET_LITE0
from training.efficientnet_lite import LITE0, BatchNorm, Scale
from training.weights import Tensors, WeightsError

Array = npt.NDArray[np.float32]
Array64 = npt.NDArray[np.float64]

# kernel, stride, expansion, channels in and out: the blocks of Lite0, one by one.
BLOCKS = [
    (3, 1, 1, 32, 16),
    (3, 2, 6, 16, 24),
    (3, 1, 6, 24, 24),
    (5, 2, 6, 24, 40),
    (5, 1, 6, 40, 40),
    (3, 2, 6, 40, 80),
    (3, 1, 6, 80, 80),
    (3, 1, 6, 80, 80),
    (5, 1, 6, 80, 112),
    (5, 1, 6, 112, 112),
    (5, 1, 6, 112, 112),
    (5, 2, 6, 112, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (3, 1, 6, 192, 320),
]


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return EFFICIENTNET_LITE0.weights.load()


@pytest.fixture(scope="module")
def photographs() -> Array:
    """Photographs of coffee, a cat and a rocket, as the default model wants them: float32 [3, 224, 224, 3]."""
    images = []
    for array in [getattr(skimage.data, name)() for name in ("coffee", "chelsea", "rocket")]:
        image = Image.fromarray(array)
        scale = 256 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        images.append(np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32))
    return (np.stack(images) - np.float32(127)) / np.float32(128)


def reference(image: Array, tensors: Tensors) -> Array64:
    """Return the pooled features [1280] of one image [224, 224, 3], channels first and in float64."""

    def padded(x: Array64, kernel: int, stride: int) -> Array64:
        """Pad so that ceil(size / stride) outputs fit, the odd pixel at the end."""
        total = max(0, (-(-x.shape[1] // stride) - 1) * stride + kernel - x.shape[1])
        sides = (total // 2, total - total // 2)
        return np.pad(x, ((0, 0), sides, sides))

    def windows(x: Array64, kernel: int, stride: int) -> Array64:
        view = np.lib.stride_tricks.sliding_window_view(padded(x, kernel, stride), (kernel, kernel), axis=(1, 2))
        return view[:, ::stride, ::stride]

    def norm(x: Array64, name: str) -> Array64:
        weight, bias, mean, variance = (
            tensors[f"{name}.{part}"].astype(np.float64)[:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 0.001) * weight + bias

    def pointwise(x: Array64, name: str) -> Array64:
        out: Array64 = np.einsum("oi,ihw->ohw", tensors[f"{name}.weight"][:, :, 0, 0], x, optimize=True)
        return out

    def relu6(x: Array64) -> Array64:
        return np.clip(x, 0, 6)

    x = windows(image.transpose(2, 0, 1).astype(np.float64), 3, 2)
    x = np.einsum("ocij,chwij->ohw", tensors["_conv_stem.weight"].astype(np.float64), x, optimize=True)
    x = relu6(norm(x, "_bn0"))
    for number, (kernel, stride, expansion, channels_in, channels_out) in enumerate(BLOCKS):
        name, y = f"_blocks.{number}", x
        if expansion > 1:
            y = relu6(norm(pointwise(y, f"{name}._expand_conv"), f"{name}._bn0"))
        depthwise = tensors[f"{name}._depthwise_conv.weight"][:, 0].astype(np.float64)
        y = np.einsum("cij,chwij->chw", depthwise, windows(y, kernel, stride), optimize=True)
        y = norm(pointwise(relu6(norm(y, f"{name}._bn1")), f"{name}._project_conv"), f"{name}._bn2")
        x = x + y if stride == 1 and channels_in == channels_out else y
    mean: Array64 = relu6(norm(pointwise(x, "_conv_head"), "_bn1")).mean(axis=(1, 2))
    return mean


@pytest.mark.parametrize("folded", [False, True])
def test_features_are_those_of_the_reference_and_tell_what_is_seen(
    tensors: Tensors, photographs: Array, *, folded: bool
) -> None:
    model = efficientnet_lite.build(224, LITE0, folded=folded)
    efficientnet_lite.load(model, LITE0, tensors, folded=folded)
    features = np.asarray(model(photographs, training=False))

    np.testing.assert_allclose(features[0], reference(photographs[0], tensors), atol=5e-5)
    classes = (features @ tensors["_fc.weight"].T + tensors["_fc.bias"]).argmax(axis=1)
    assert classes.tolist() == [967, 282, 657]  # ImageNet's espresso, tiger cat, missile


@pytest.mark.parametrize("depthwise", [False, True])
def test_folding_keeps_what_convolution_and_batch_norm_compute(*, depthwise: bool) -> None:
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=(3, 3, 4, 1) if depthwise else (3, 3, 4, 6)).astype(np.float32)
    channels = 4 if depthwise else 6
    norm = BatchNorm(*(rng.uniform(0.5, 2, channels).astype(np.float32) for _ in range(4)))
    x = rng.normal(size=(2, 9, 9, 4)).astype(np.float32)
    convolve = keras.ops.depthwise_conv if depthwise else keras.ops.conv
    plain = np.asarray(convolve(x, kernel, padding="same"))
    expected = (plain - norm.mean) / np.sqrt(norm.variance + 1e-3) * norm.gamma + norm.beta

    folded, bias = efficientnet_lite.fold(kernel, norm, depthwise=depthwise)
    assert folded.dtype == bias.dtype == np.float32
    np.testing.assert_allclose(np.asarray(convolve(x, folded, padding="same")) + bias, expected, atol=1e-4)


def test_lite0_has_the_parameters_of_lite0() -> None:
    assert (
        efficientnet_lite.build(224, LITE0).count_params() == 3_413_024
    )  # and 1,281,000 in the classifier: 4.7 million
    found = [
        (
            block.units[-2].kernel,
            block.units[-2].stride,
            block.units[-2].filters,
            block.units[-1].filters,
            block.residual,
        )
        for block in efficientnet_lite.blocks(LITE0)
    ]
    assert found == [(k, s, i * e, o, s == 1 and i == o) for k, s, e, i, o in BLOCKS]


def test_a_wider_and_deeper_scale_leaves_stem_and_head_alone() -> None:
    blocks = list(efficientnet_lite.blocks(Scale(width=1.1, depth=1.2)))
    units = list(efficientnet_lite.units(Scale(width=1.1, depth=1.2)))
    assert (units[0].filters, units[-1].filters) == (32, 1280)
    assert len(blocks) == 1 + 3 + 3 + 4 + 4 + 5 + 1
    assert [block.units[-1].filters for block in blocks if not block.residual] == [16, 24, 48, 88, 120, 208, 352]


def test_a_missing_or_misshapen_tensor_is_named(tensors: Tensors) -> None:
    model = efficientnet_lite.build(224, LITE0)
    rest = {name: value for name, value in tensors.items() if name != "_blocks.3._bn1.bias"}
    with pytest.raises(WeightsError, match=r"no _blocks\.3\._bn1\.bias"):
        efficientnet_lite.load(model, LITE0, rest)
    wrong = {**tensors, "_conv_head.weight": tensors["_conv_head.weight"][:, :-1]}
    with pytest.raises(WeightsError, match=r"conv_head has the shapes \[\(1, 1, 319, 1280\)\]"):
        efficientnet_lite.load(model, LITE0, wrong)


@pytest.mark.parametrize("folded", [False, True])
def test_the_network_can_be_saved_as_it_is(tmp_path: Path, *, folded: bool) -> None:
    model = efficientnet_lite.build(32, LITE0, folded=folded)
    images = np.random.default_rng(4).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(loaded.serve(images), model(images, training=False), atol=1e-5)
