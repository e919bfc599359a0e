"""A rectangle of a picture that a search is made for, as people and programs write it."""

import re
from dataclasses import dataclass
from typing import Final, Self

from shared.errors import Invalid

LEAST_SIDE: Final = 8
"""Pixels of either side that a rectangle has at least."""

LONGEST: Final = 120
"""Characters of a written rectangle."""

Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an upright picture, in pixels."""

_PERCENT: Final = "pct:"
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?", re.ASCII)
_EXPECTED: Final = "expected x,y,width,height in pixels of the upright picture, or in hundredths after `pct:`"


@dataclass(frozen=True)
class Region:
    """A rectangle, in pixels of the upright picture or in percent of its sides."""

    x: float
    y: float
    width: float
    height: float
    percent: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rectangle that ``10,20,300,200`` or ``pct:10,20,30,40`` names: x, y, width, height.

        Raises:
            Invalid: It names none.
        """
        percent = text.startswith(_PERCENT)
        parts = [part.strip() for part in text.removeprefix(_PERCENT).split(",")]
        if len(text) > LONGEST or len(parts) != 4 or not all(map(_NUMBER.fullmatch, parts)):
            raise Invalid(f"{text[:60]!r} is no box; {_EXPECTED}")
        x, y, width, height = map(float, parts)
        region = cls(x, y, width, height, percent=percent)
        if not region.width or not region.height:
            raise Invalid(f"the box {text!r} is empty: its width and height have to be more than 0")
        if percent and max(region.x + region.width, region.y + region.height) > 100 + 1e-6:
            raise Invalid(f"the box {text!r} reaches beyond the picture: x + width and y + height are 100 at most")
        return region

    def within(self, width: int, height: int) -> Rectangle:
        """Return the pixels of a picture that the rectangle covers, rounded to the nearest.

        Raises:
            Invalid: It reaches beyond the picture, or is too small.
        """
        across, down = (width / 100, height / 100) if self.percent else (1.0, 1.0)
        left, top = round(self.x * across), round(self.y * down)
        right, bottom = round((self.x + self.width) * across), round((self.y + self.height) * down)
        size = f"the picture has {width} x {height} pixels"
        if right > width or bottom > height:
            raise Invalid(f"the box reaches to {right},{bottom}: {size}")
        if min(right - left, bottom - top) < LEAST_SIDE:
            least = f"at least {LEAST_SIDE} x {LEAST_SIDE} are needed"
            raise Invalid(f"the box has {right - left} x {bottom - top} pixels, {least}: {size}")
        return left, top, right, bottom
