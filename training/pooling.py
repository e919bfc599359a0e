"""Pooling: what makes one vector of a feature map, by the names that architectures and recipes use."""

from typing import TYPE_CHECKING, Any, Final

from shared.errors import NotFound

if TYPE_CHECKING:
    import keras

POOLINGS: Final = ("mean", "max", "gem", "gem-fixed")
"""Of each channel the mean, the maximum, or the generalised mean, whose exponent is learned or stays 3."""


def check_pooling(name: str) -> None:
    """Raise NotFound unless `name` is one of `POOLINGS`."""
    if name not in POOLINGS:
        raise NotFound(f"no pooling is named {name!r}; there are: {', '.join(POOLINGS)}")


def pooling_named(name: str) -> "keras.Layer":
    """Return a new layer from float [batch, height, width, channels] to float32 [batch, channels], named "pooling".

    It computes in single precision, whatever the network does.

    Raises:
        NotFound: there is no such pooling.
    """
    check_pooling(name)
    import keras  # noqa: PLC0415, it imports TensorFlow

    from training.gem import GeM  # noqa: PLC0415

    options: dict[str, Any] = {"name": "pooling", "dtype": "float32"}
    if name == "mean":
        return keras.layers.GlobalAveragePooling2D(**options)
    if name == "max":
        return keras.layers.GlobalMaxPooling2D(**options)
    return GeM(learned=name == "gem", **options)
