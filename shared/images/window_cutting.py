"""Cuts the windows out of an image that is decoded once."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.images.contract import DEFAULT_LIMITS, File, ImageInfo, Limits
from shared.images.decoding import picture
from shared.windows import windows

Size = tuple[int, int]
"""Width and height in pixels."""

_SHORTER: Final = 6  # times a square's side: the smallest windows are a third, and lose nothing at twice their size
_LONGEST: Final = 8192


def cut(
    data: File, *, size: int, of: Size | None = None, limits: Limits = DEFAULT_LIMITS, page: int = 1
) -> tuple[NDArray[np.uint8], ImageInfo]:
    """The windows of an image as the models take them: of each its middle square.

    Args:
        data: the file.
        size: side of the squares, in pixels.
        of: width and height of the original whose windows are meant, if the file is a smaller copy of it.
        limits: what the image may cost.
        page: which page of a document.

    Returns:
        uint8 [n, size, size, 3], RGB, in the order of `windows`; and what `identify` says.

    Raises:
        ImageRefused: see `REASONS`.
    """
    image, info = picture(data, shorter=_SHORTER * size, longest=_LONGEST, limits=limits, page=page)
    width, height = of or (info.width, info.height)
    found = windows(width, height)
    squares = np.empty((len(found), size, size, 3), np.uint8)
    across, down = image.width / width, image.height / height
    for square, (left, top, right, bottom) in zip(squares, found, strict=True):
        x, wide = _middle(right - left, min(right - left, bottom - top), size)
        y, high = _middle(bottom - top, min(right - left, bottom - top), size)
        box = (
            (left + x) * across,
            (top + y) * down,
            min((left + x + wide) * across, image.width),
            min((top + y + high) * down, image.height),
        )
        square[:] = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return squares, info


def _middle(side: int, shorter: int, size: int) -> tuple[float, float]:
    """Return where the middle of a window's side begins, and how long it is, by the rounding of `decoding.decode`."""
    scaled = round(side * size / shorter)
    return (scaled - size) // 2 * side / scaled, size * side / scaled
