"""Derivatives as the embedder needs them: made of new images, and decoded where an image is embedded again."""

import logging
from typing import BinaryIO

from services.embedder.decoded import Decoded, DecodedWindows
from shared.images import Decoder, ImageInfo, ImageRefused
from shared.index.derivatives import Derivatives, is_needed
from shared.messaging.messages import BatchImage
from shared.storage import layout
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)


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
        """Decode the derivative of an image; None if there is none of use."""
        derivative = self._derivatives.get(item.digest)
        if derivative is None:
            return None
        try:
            pixels, _ = self._decoder.decode(derivative.data, size=size)
        except ImageRefused as refusal:
            _log.warning("the derivative of %s is of no use: %s", item.name, refusal)
            return None
        return Decoded(item, pixels, derivative.info)

    def windows(self, item: BatchImage, *, size: int) -> DecodedWindows | None:
        """Cut the windows of an image out of its derivative; None if there is none of use."""
        derivative = self._derivatives.get(item.digest)
        if derivative is None:
            return None
        info = derivative.info
        try:
            pixels, _ = self._decoder.windows(derivative.data, size=size, of=(info.width, info.height))
        except ImageRefused as refusal:
            _log.warning("the derivative of %s is of no use: %s", item.name, refusal)
            return None
        return DecodedWindows(item, pixels, info)
