"""Places images on a map that was fitted without them: amid the images on it that they are most like."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS: Final = 5
"""Images of the map that one is placed amid."""

_BLOCK: Final = 1024  # images whose distances are computed at a time
_SHARE: Final = 0.25  # of the neighbours' distances: so far from their middle at most
_TURN: Final = np.pi * (3 - np.sqrt(5))  # the golden angle: successive images never come to lie in one line


def place(
    points: NDArray[np.float32],
    ids: NDArray[np.int64],
    known: NDArray[np.float32],
    positions: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return where images belong on a map: the median of their nearest there, which no single outlier moves.

    Images with the same neighbours would hide each other, so each is moved a little, by its id.

    Args:
        points: float32 [n, c], the images to place.
        ids: int64 [n], theirs.
        known: float32 [m, c], images on the map; at least one.
        positions: float32 [m, 2], where these are.

    Returns:
        float32 [n, 2]
    """
    found = np.empty((len(points), 2), np.float32)
    count = min(NEIGHBOURS, len(known))
    lengths = (known**2).sum(axis=1)
    for start in range(0, len(points), _BLOCK):
        block = slice(start, start + _BLOCK)
        distances = lengths - 2 * points[block] @ known.T
        near = positions[np.argpartition(distances, count - 1, axis=1)[:, :count]]
        middle = np.median(near, axis=1)
        spread = np.linalg.norm(near - middle[:, None], axis=2).mean(axis=1)
        angle = (ids[block] % 2**20) * _TURN
        radius = _SHARE * spread * np.sqrt((1 + ids[block] % 97) / 97)
        found[block] = middle + np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
    return np.clip(found, -1, 1)
