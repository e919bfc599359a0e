"""Local features of a picture, as they are compared, stored and sent.

A packed value is a head (format, the picture's size, its numbers), the features, a small grey copy of the picture, and
a checksum. It is a cache: what cannot be read is made again.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid
from shared.versioned import StoredKind

MOST: Final = 800
"""Features that a picture has at most."""

LENGTH: Final = 128
"""Numbers of a descriptor."""

SMALL: Final = 96
"""Pixels of the longer side of the small grey copy, at most."""

KIND: Final = StoredKind("local features")

_MAGIC: Final = b"ASLF"
_HEAD: Final = struct.Struct("<4sHIIHHH")  # magic, format, width, height, features, small copy's width and height
_CHECKSUM: Final = struct.Struct("<I")
MOST_BYTES: Final = _HEAD.size + MOST * (8 + LENGTH) + SMALL**2 + _CHECKSUM.size
"""Bytes of a packed value, at most."""

_LARGEST: Final = 2**31


@dataclass(frozen=True)
class LocalFeatures:
    """Local features of a picture.

    Attributes:
        width: Pixels of the upright original, or of the part that was looked at.
        height: Pixels of the upright original, or of the part.
        points: Where they lie, in those pixels: float32 [n, 2].
        descriptors: What is there, RootSIFT (Arandjelović and Zisserman: Three things everyone should know to improve
            object retrieval, 2012) as whole numbers: uint8 [n, 128].
        small: The picture in shades of grey: uint8 [h, w], at most `SMALL` on either side.
    """

    width: int
    height: int
    points: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.uint8]
    small: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.points)

    def pack(self) -> bytes:
        """Return the features as bytes."""
        high, wide = self.small.shape
        head = _HEAD.pack(_MAGIC, KIND.newest, self.width, self.height, len(self), wide, high)
        data = head + self.points.astype("<f4").tobytes() + self.descriptors.tobytes() + self.small.tobytes()
        return data + _CHECKSUM.pack(zlib.crc32(data))

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview, *, place: str = "given") -> Self:
        """Return the features that bytes hold.

        Raises:
            TooNew: A newer version of Artseek wrote them.
            Invalid: They hold none.
        """
        try:
            magic, number, width, height, count, wide, high = _HEAD.unpack_from(data)
            if magic != _MAGIC:
                raise Invalid(f"the local features {place!r} cannot be read: they do not begin as such do")
            KIND.check(number, place=place)
            length = _HEAD.size + count * (8 + LENGTH) + wide * high
            (checksum,) = _CHECKSUM.unpack_from(data, length)
        except struct.error as error:
            raise Invalid(f"the local features {place!r} cannot be read: {error}") from None
        sizes = 0 < width < _LARGEST and 0 < height < _LARGEST and count <= MOST and max(wide, high) <= SMALL
        if not sizes or len(data) != length + _CHECKSUM.size or zlib.crc32(data[:length]) != checksum:
            raise Invalid(f"the local features {place!r} cannot be read: they are damaged")
        at = _HEAD.size
        points = np.frombuffer(data, "<f4", 2 * count, at).reshape(count, 2).astype(np.float32)
        at += points.nbytes
        descriptors = np.frombuffer(data, np.uint8, LENGTH * count, at).reshape(count, LENGTH)
        small = np.frombuffer(data, np.uint8, wide * high, at + descriptors.nbytes).reshape(high, wide)
        if not np.isfinite(points).all():
            raise Invalid(f"the local features {place!r} cannot be read: a place is no number")
        return cls(width, height, points, descriptors, small)
