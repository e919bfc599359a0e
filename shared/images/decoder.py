"""What the services decode images with: a pool of processes (`shared.images.decoder_pool`), or this process itself."""

import mmap
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.images import decoding
from shared.images.contract import DEFAULT_LIMITS, File, ImageInfo, Limits
from shared.images.regions import Rectangle
from shared.images.window_cutting import Size, cut


class Decoder(Protocol):
    """Decodes images within limits; every call raises `ImageRefused` for an image that is not taken.

    The calls are those of `shared.images.decoding`. A large image is better given as an open file of the disk, which is
    not read into memory. `page` is a page of a document, such as a TIFF of several pages.
    """

    def identify(self, data: bytes | BinaryIO, *, page: int = 1) -> ImageInfo:
        """Return the format and size of an image, from its header alone."""

    def decode(
        self, data: bytes | BinaryIO, *, size: int, page: int = 1, part: Rectangle | None = None
    ) -> tuple[NDArray[np.uint8], ImageInfo]:
        """Return the middle square of an image or a part of it, uint8 [size, size, 3], and what `identify` says."""

    def windows(
        self, data: bytes | BinaryIO, *, size: int, of: Size | None = None, page: int = 1
    ) -> tuple[NDArray[np.uint8], ImageInfo]:
        """Return the middle squares of the windows of an image, uint8 [n, size, size, 3], and what `identify` says.

        `of`: the size of the original whose windows are meant, if the image is a smaller copy of it.
        """

    def thumbnail(self, data: bytes | BinaryIO, *, box: int, page: int = 1) -> bytes:
        """Return a JPEG of the whole image, at most `box` pixels on either side."""

    def tile(self, data: bytes | BinaryIO, *, part: Rectangle, shrink: int, page: int = 1) -> bytes:
        """Return a JPEG of a part of the image, at 1/`shrink` of its size."""

    def grey(self, data: bytes | BinaryIO, *, side: int, page: int = 1) -> NDArray[np.uint8]:
        """Return the whole image in shades of grey, squeezed into a square: uint8 [side, side]."""

    def metadata(self, blocks: bytes) -> bytes:
        """Return what blocks of metadata say, from `Blocks.pack` to `read_said` of `shared.records.embedded`."""


class DirectDecoder:
    """Decodes in this process: for pictures that are trusted, and for the processes of a pool."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.limits = limits

    def identify(self, data: bytes | BinaryIO | mmap.mmap, *, page: int = 1) -> ImageInfo:
        """See `decoding.identify`."""
        return decoding.identify(_opened(data), limits=self.limits, page=page)

    def decode(
        self, data: bytes | BinaryIO | mmap.mmap, *, size: int, page: int = 1, part: Rectangle | None = None
    ) -> tuple[NDArray[np.uint8], ImageInfo]:
        """See `decoding.decode`."""
        return decoding.decode(_opened(data), size=size, limits=self.limits, page=page, part=part)

    def windows(
        self, data: bytes | BinaryIO | mmap.mmap, *, size: int, of: Size | None = None, page: int = 1
    ) -> tuple[NDArray[np.uint8], ImageInfo]:
        """See `window_cutting.cut`."""
        return cut(_opened(data), size=size, of=of, limits=self.limits, page=page)

    def thumbnail(self, data: bytes | BinaryIO | mmap.mmap, *, box: int, page: int = 1) -> bytes:
        """See `decoding.thumbnail`."""
        return decoding.thumbnail(_opened(data), box=box, limits=self.limits, page=page)

    def tile(self, data: bytes | BinaryIO | mmap.mmap, *, part: Rectangle, shrink: int, page: int = 1) -> bytes:
        """See `decoding.tile`."""
        return decoding.tile(_opened(data), part=part, shrink=shrink, limits=self.limits, page=page)

    def grey(self, data: bytes | BinaryIO | mmap.mmap, *, side: int, page: int = 1) -> NDArray[np.uint8]:
        """See `decoding.grey`."""
        return decoding.grey(_opened(data), side=side, limits=self.limits, page=page)

    def metadata(self, blocks: File) -> bytes:
        """See `embedded.said_by`."""
        from shared.records.embedded import pack_said, said_by  # noqa: PLC0415 -- few who decode want it
        from shared.records.metadata_blocks import Blocks  # noqa: PLC0415

        return pack_said(said_by(Blocks.unpack(bytes(blocks))))


def _opened(data: bytes | BinaryIO | mmap.mmap) -> File:
    if isinstance(data, bytes | mmap.mmap):
        return data
    return mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ)
