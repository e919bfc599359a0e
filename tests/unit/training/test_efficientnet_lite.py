"""EfficientNet-Lite in Keras, held against a second implementation in numpy and against photographs."""

import keras
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
from PIL import Image

from training import efficientnet_lite
from training.backbones import EFFICIENTNET_LITE0, EFFICIENTNET_LITE2, EfficientNetLite
from training.efficientnet_lite import LITE0, LITE2, Scale
from training.folding import folded
from training.pretrained import Imagenet, RandomWeights
from training.weights import Tensors, WeightsError

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]
Array64 = npt.NDArray[np.float64]
Blocks = list[tuple[int, int, int, int, int]]

# kernel, stride, expansion, channels in and out: the blocks of Lite0 and of Lite2, one by one.
BLOCKS0: Blocks = [
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
BLOCKS2: Blocks = [
    (3, 1, 1, 32, 16),
    (3, 2, 6, 16, 24),
    (3, 1, 6, 24, 24),
    (3, 1, 6, 24, 24),
    (5, 2, 6, 24, 48),
    (5, 1, 6, 48, 48),
    (5, 1, 6, 48, 48),
    (3, 2, 6, 48, 88),
    (3, 1, 6, 88, 88),
    (3, 1, 6, 88, 88),
    (3, 1, 6, 88, 88),
    (5, 1, 6, 88, 120),
    (5, 1, 6, 120, 120),
    (5, 1, 6, 120, 120),
    (5, 1, 6, 120, 120),
    (5, 2, 6, 120, 208),
    (5, 1, 6, 208, 208),
    (5, 1, 6, 208, 208),
    (5, 1, 6, 208, 208),
    (5, 1, 6, 208, 208),
    (3, 1, 6, 208, 352),
]


def photographs(size: int) -> Array:
    """Return photographs of coffee, a cat and a rocket: float32 [3, size, size, 3], 0 to 255."""
    images = []
    for array in [getattr(skimage.data, name)() for name in ("coffee", "chelsea", "rocket")]:
        image = Image.fromarray(array)
        scale = (size + 32) / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        images.append(np.asarray(image.crop((left, top, left + size, top + size)), np.float32))
    return np.stack(images)


def reference(image: Array, tensors: Tensors, blocks: Blocks) -> Array64:
    """Return the pooled features [1280] of one image [size, size, 3], 0 to 255, channels first and in float64."""

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

    x = windows((image.transpose(2, 0, 1).astype(np.float64) - 127) / 128, 3, 2)
    x = np.einsum("ocij,chwij->ohw", tensors["_conv_stem.weight"].astype(np.float64), x, optimize=True)
    x = relu6(norm(x, "_bn0"))
    for number, (kernel, stride, expansion, channels_in, channels_out) in enumerate(blocks):
        name, y = f"_blocks.{number}", x
        if expansion > 1:
            y = relu6(norm(pointwise(y, f"{name}._expand_conv"), f"{name}._bn0"))
        depthwise = tensors[f"{name}._depthwise_conv.weight"][:, 0].astype(np.float64)
        y = np.einsum("cij,chwij->chw", depthwise, windows(y, kernel, stride), optimize=True)
        y = norm(pointwise(relu6(norm(y, f"{name}._bn1")), f"{name}._project_conv"), f"{name}._bn2")
        x = x + y if stride == 1 and channels_in == channels_out else y
    mean: Array64 = relu6(norm(pointwise(x, "_conv_head"), "_bn1")).mean(axis=(1, 2))
    return mean


@pytest.mark.parametrize(
    ("backbone", "blocks", "seen"),
    [
        (EFFICIENTNET_LITE0, BLOCKS0, [967, 282, 657]),  # ImageNet's espresso, tiger cat, missile
        (EFFICIENTNET_LITE2, BLOCKS2, [967, 285, 540]),  # espresso, Egyptian cat, drilling platform
    ],
    ids=["lite0", "lite2"],
)
def test_features_are_those_of_the_reference_and_tell_what_is_seen(
    backbone: EfficientNetLite, blocks: Blocks, seen: list[int]
) -> None:
    tensors = backbone.packaged.load()
    images = photographs(backbone.input_size)
    network = backbone.build(Imagenet())
    features = np.asarray(network(images, training=False)).mean(axis=(1, 2))

    np.testing.assert_allclose(features[0], reference(images[0], tensors, blocks), atol=5e-5)
    classes = (features @ tensors["_fc.weight"].T + tensors["_fc.bias"]).argmax(axis=1)
    assert classes.tolist() == seen
    without_norms = np.asarray(folded(network)(images, training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(without_norms, features, atol=1e-4)


def network_of(scale: Scale) -> keras.Model:
    pixels = keras.Input((32, 32, 3))
    return keras.Model(pixels, efficientnet_lite.features(pixels, scale))


def test_lite0_has_the_parameters_of_lite0() -> None:
    assert network_of(LITE0).count_params() == 3_413_024  # and 1,281,000 in the classifier: 4.7 million


def test_lite2_has_the_parameters_of_lite2() -> None:
    assert network_of(LITE2).count_params() == 4_869_168  # and 1,281,000 in the classifier: 6.1 million


@pytest.mark.parametrize(("scale", "blocks"), [(LITE0, BLOCKS0), (LITE2, BLOCKS2)], ids=["lite0", "lite2"])
def test_the_blocks_are_those_of_the_scale(scale: Scale, blocks: Blocks) -> None:
    found = [
        (
            block.units[-2].kernel,
            block.units[-2].stride,
            block.units[-2].filters,
            block.units[-1].filters,
            block.residual,
        )
        for block in efficientnet_lite.blocks(scale)
    ]
    assert found == [(k, s, i * e, o, s == 1 and i == o) for k, s, e, i, o in blocks]
    units = list(efficientnet_lite.units(scale))
    assert (units[0].filters, units[-1].filters) == (32, 1280)  # no scale widens stem and head


def test_a_missing_or_misshapen_tensor_is_named() -> None:
    tensors = EFFICIENTNET_LITE0.packaged.load()
    network = network_of(LITE0)
    rest = {name: value for name, value in tensors.items() if name != "_blocks.3._bn1.bias"}
    with pytest.raises(WeightsError, match=r"no _blocks\.3\._bn1\.bias"):
        efficientnet_lite.load(network, LITE0, rest)
    wrong = {**tensors, "_conv_head.weight": tensors["_conv_head.weight"][:, :-1]}
    with pytest.raises(WeightsError, match=r"conv_head has the shapes \[\(1, 1, 319, 1280\)\]"):
        efficientnet_lite.load(network, LITE0, wrong)


def test_weights_of_another_scale_are_refused_by_name() -> None:
    network = EFFICIENTNET_LITE2.build(RandomWeights(1), input_size=32)
    with pytest.raises(WeightsError, match=r"blocks_3_depthwise_conv has the shapes \[\(5, 5, 144, 1\)\]"):
        efficientnet_lite.load(network, LITE2, EFFICIENTNET_LITE0.packaged.load())
