"""Which windows of a picture are indexed beside the whole, so that a search finds a picture by a detail of it.

The windows follow from the picture's width and height alone, so that their ids can be told without the picture. A
model sees the middle square of what it is given: of a long picture, square windows along it see all of it.
"""

import math
from typing import Final

from shared.errors import Invalid

Window = tuple[int, int, int, int]
"""Left, top, right and bottom of a window, in pixels of the upright original."""

MOST_WINDOWS: Final = 38
"""Windows that a picture has at most."""

LEAST_SIDE: Final = 32
"""Pixels of the original that either side of a window has at least: of less, nothing can be told."""

LONG: Final = 2.0
"""Ratio of the sides beyond which a picture is long."""

_GRIDS: Final = ((0.7, 2), (1 / 2, 3), (1 / 3, 5))  # the share of the sides, and the windows in each direction
_ROWS: Final = 3  # of the half-side squares of a long picture


def windows(width: int, height: int) -> list[Window]:
    """Return the windows of an upright picture in pixels, in an order that is always the same.

    A picture has 38 of them: 2 x 2 of 0.7 of its sides, 3 x 3 of half, and 5 x 5 of a third. One that is more than
    twice as long as it is high, or the other way round, has squares along it: of its shorter side, overlapping by half,
    and of half of it in three rows. Those are left out that would have less than `LEAST_SIDE` pixels of a side; a
    picture that has less itself has none, nor has one whose sides are not known, and so 0.
    """
    if min(width, height) < LEAST_SIDE:
        return []
    if max(width, height) > LONG * min(width, height):
        return _along(width, height)
    return [
        window
        for share, count in _GRIDS
        for window in _grid(width, height, (round(width * share), round(height * share)), (count, count))
    ]


def is_long(width: int, height: int) -> bool:
    """Return whether a picture is so long that a model sees but a part of it, and its windows show the rest."""
    return max(width, height) > LONG * min(width, height) and bool(windows(width, height))


def written(window: Window) -> str:
    """Return a window as the name of its row says it: x, y, width and height in pixels of the upright original."""
    left, top, right, bottom = window
    return f"{left},{top},{right - left},{bottom - top}"


def box_of(name: str) -> tuple[int, int, int, int]:
    """Return x, y, width and height of the window that the name of a row says.

    Raises:
        Invalid: It is the name of no window.
    """
    try:
        x, y, width, height = map(int, name.split(","))
    except ValueError:
        raise Invalid(f"{name[:80]!r} names no window: expected x,y,width,height in pixels") from None
    return x, y, width, height


def _along(width: int, height: int) -> list[Window]:
    """Return the square windows of a long picture."""
    longer, shorter = max(width, height), min(width, height)
    whole = min(MOST_WINDOWS, math.ceil(2 * longer / shorter) - 1)
    half = min((MOST_WINDOWS - whole) // _ROWS, math.ceil(3 * longer / shorter))
    found = []
    for side, count, rows in ((shorter, whole, 1), (round(shorter / 2), half, _ROWS)):
        counts = (count, rows) if width > height else (rows, count)
        found += _grid(width, height, (side, side), counts)
    return found


def _grid(width: int, height: int, window: tuple[int, int], counts: tuple[int, int]) -> list[Window]:
    """Return windows of one size, spread evenly from edge to edge, row by row."""
    across, down = window
    if min(across, down) < LEAST_SIDE:
        return []
    return [
        (left, top, left + across, top + down)
        for top in _starts(height - down, counts[1])
        for left in _starts(width - across, counts[0])
    ]


def _starts(room: int, count: int) -> list[int]:
    return [round(room * place / (count - 1)) for place in range(count)] if count > 1 else [room // 2] * count
