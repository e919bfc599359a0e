"""What an image file says of itself, read by a decoding process: anybody may have written it."""

import logging
from typing import BinaryIO

from shared.images import Decoder, ImageRefused
from shared.records.embedded import Fields, read_said
from shared.records.metadata_blocks import find_blocks
from shared.records.model import Origin
from shared.storage.large_objects import LARGE

_log = logging.getLogger(__name__)


def embedded_metadata(decoder: Decoder, name: str, data: bytes | BinaryIO) -> dict[Origin, Fields]:
    """Return what an image file says of itself; nothing if that cannot be read: the image is taken all the same."""
    blocks = find_blocks(_head_of(data))
    if not blocks:
        return {}
    try:
        return read_said(decoder.metadata(blocks.pack()))
    except ImageRefused as error:
        _log.warning("what %s says of itself cannot be read: %s", name, error)
        return {}


def _head_of(data: bytes | BinaryIO) -> bytes:
    """Return the bytes of a file, of a large one those in which it says what it is."""
    if isinstance(data, bytes):
        return data
    data.seek(0)
    return data.read(LARGE)
