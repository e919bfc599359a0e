"""The tiles of a picture, which a page shows zoomed: its levels, and the part of it that a tile shows.

Levels and places are those of Deep Zoom: the last level is the picture itself, each one before it half as wide and
high, rounded up, and the first a single pixel. Tiles are large, since a coded picture is gone through from its top for
each of them: a screen is covered by four at most.
"""

from typing import Final

from shared.errors import NotFound
from shared.images.regions import Rectangle

SIDE: Final = 2048
"""Pixels of a side of a tile; those at the right and lower edge may be smaller."""


def last_level(width: int, height: int) -> int:
    """Return the number of the level that has all pixels of a picture."""
    return (max(width, height) - 1).bit_length()


def part_of(width: int, height: int, *, level: int, x: int, y: int) -> tuple[Rectangle, int]:
    """Return which part of a picture a tile shows, and how many times smaller it shows it.

    Raises:
        NotFound: The picture has no such tile.
    """
    last = last_level(width, height)
    if level > last:
        raise NotFound(f"the picture of {width} x {height} pixels has no level {level}: its last is {last}")
    shrink = 1 << (last - level)
    step = SIDE * shrink
    left, top = x * step, y * step
    if left >= width or top >= height:
        across, down = -(-width // step), -(-height // step)
        raise NotFound(f"level {level} has {across} x {down} tiles, counted from 0, and none at {x}, {y}")
    return (left, top, min(left + step, width), min(top + step, height)), shrink
