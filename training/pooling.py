"""Pooling, from feature maps to a vector of features, by the names that architectures and recipes use."""

from typing import TYPE_CHECKING, Any, Final

from shared.errors import NotFound

if TYPE_CHECKING:
    import keras

    from training.backbones import Backbone

STAGES: Final = "stages"
POOLINGS: Final = ("mean", "max", "gem", "gem-fixed", STAGES)
"""Of each channel of the last feature map the mean, the maximum, or the generalised mean, whose exponent is learned or
stays 3; or, of each channel of the feature maps of all stages, mean and standard deviation."""


def check_pooling(name: str) -> None:
    """Raise NotFound unless `name` is one of `POOLINGS`."""
    if name not in POOLINGS:
        raise NotFound(f"no pooling is named {name!r}; there are: {', '.join(POOLINGS)}")


def pooled_width(name: str, backbone: "Backbone") -> int:
    """Return how many features there are after pooling."""
    return 2 * (sum(backbone.stages.values()) + backbone.channels) if name == STAGES else backbone.channels


def pooling_named(name: str) -> "keras.Layer":
    """Return a new layer from float [batch, height, width, channels] to float32 [batch, channels], named "pooling".

    "stages" takes a list of such feature maps. It computes in single precision, whatever the network does.

    Raises:
        NotFound: there is no such pooling.
    """
    check_pooling(name)
    import keras  # noqa: PLC0415, it imports TensorFlow

    from training.pooling_layers import GeM, Statistics  # noqa: PLC0415

    options: dict[str, Any] = {"name": "pooling", "dtype": "float32"}
    match name:
        case "mean":
            return keras.layers.GlobalAveragePooling2D(**options)
        case "max":
            return keras.layers.GlobalMaxPooling2D(**options)
        case "stages":
            return Statistics(**options)
        case _:
            return GeM(learned=name == "gem", **options)
