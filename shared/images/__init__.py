"""Image bytes to checked RGB: what is taken, what is refused and why, and the pixels that models and pages get."""

from shared.images.contract import DEFAULT_LIMITS, MEDIA_TYPES, REASONS, ImageInfo, ImageRefused, Limits
from shared.images.decoder import Decoder, DirectDecoder
from shared.images.decoding import decode, grey, identify, thumbnail, tile

__all__ = [
    "DEFAULT_LIMITS",
    "MEDIA_TYPES",
    "REASONS",
    "Decoder",
    "DirectDecoder",
    "ImageInfo",
    "ImageRefused",
    "Limits",
    "decode",
    "grey",
    "identify",
    "thumbnail",
    "tile",
]
