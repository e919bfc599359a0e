"""Derivatives as the embedder needs them: made of new images, and decoded where an image is embedded again."""

import logging
import math
from typing import BinaryIO, Final

from services.embedder.decoded import Decoded, DecodedWindows
from shared.images import Decoder, ImageInfo, ImageRefused
from shared.index.derivatives import BOX, Derivatives, is_needed
from shared.messaging.messages import BatchImage
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.windows import windows

_log = logging.getLogger(__name__)

_LEAST: Final = 0.5  # of the pixels that a model takes: a window with fewer in the derivative is cut from the original


class DerivedImages:
    """Makes and decodes derivatives; one that cannot be made or decoded is no reason to leave an image out."""

    def __init__(self, store: ObjectStore, decoder: Decoder) -> None:
        self._store, self._decoder = store, decoder
        self._derivatives = Derivatives(store, decoder)

    def derive(self, item: BatchImage, data: bytes | BinaryIO, info: ImageInfo) -> None:
        """Make the derivative of an image that needs one and has none."""
        key = layout.derivative_key(item.digest)
        if is_needed(media_type=info.media_type, width=info.width, height=info.height) and not self._store.exists(key):
            try:
                self._derivatives.make(item.digest, data, info, page=item.page)
            except ImageRefused as refusal:
                _log.warning("%s has no derivative: %s", item.name, refusal)

    def decode(self, item: BatchImage, *, size: int) -> Decoded | None:
        """Decode the derivative of an image; None if there is none of use, as of a very long picture."""
        derivative = self._derivatives.get(item.digest)
        if derivative is None or _pixels_left(derivative.info, _shorter(derivative.info)) < size:
            return None
        try:
            pixels, _ = self._decoder.decode(derivative.data, size=size)
        except ImageRefused as refusal:
            _log.warning("the derivative of %s is of no use: %s", item.name, refusal)
            return None
        return Decoded(item, pixels, derivative.info)

    def windows(self, item: BatchImage, *, size: int) -> DecodedWindows | None:
        """Cut an image's windows out of its derivative; None if there is none of use, as of a very long picture."""
        derivative = self._derivatives.get(item.digest)
        if derivative is None:
            return None
        info = derivative.info
        sides = (min(right - left, bottom - top) for left, top, right, bottom in windows(info.width, info.height))
        if _pixels_left(info, min(sides, default=0)) < _LEAST * size:
            return None
        try:
            pixels, _ = self._decoder.windows(derivative.data, size=size, of=(info.width, info.height))
        except ImageRefused as refusal:
            _log.warning("the derivative of %s is of no use: %s", item.name, refusal)
            return None
        return DecodedWindows(item, pixels, info)


def _shorter(info: ImageInfo) -> int:
    return min(info.width, info.height)


def _pixels_left(info: ImageInfo, side: int) -> float:
    """Return how many pixels of an original's `side` are left in its derivative; infinity if all of them are."""
    scale = BOX / max(info.width, info.height)
    return math.inf if scale >= 1 else side * scale
