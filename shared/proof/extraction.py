"""Finds the local features of a picture: SIFT (Lowe 2004), spread over the picture, as RootSIFT."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from shared.proof.features import LENGTH, MOST, SMALL, LocalFeatures

SIDE: Final = 1000
"""Pixels of the longer side that a picture is brought down to before its features are looked for."""

_FOUND: Final = 4000  # features that are looked at: the strongest
_CONTRAST: Final = 0.02  # half of what is usual: scans of prints and drawings are pale
_CELLS: Final = 8  # along either side
_SCALE: Final = 512.0  # of a number of a descriptor, whose squares have the sum 1
_LEAST_SIDE: Final = 16


def local_features(grey: npt.NDArray[np.uint8], *, width: int, height: int) -> LocalFeatures:
    """Return the local features of a picture.

    Args:
        grey: The upright picture, brought down: uint8 [h, w].
        width: Pixels of its original.
        height: Pixels of its original.
    """
    high, wide = grey.shape
    points = np.empty((0, 2), np.float32)
    descriptors = np.empty((0, LENGTH), np.uint8)
    if min(high, wide) >= _LEAST_SIDE:
        sift = cv2.SIFT_create(nfeatures=_FOUND, contrastThreshold=_CONTRAST)
        # All are described at once, more than are kept: for some alone, the scales of the picture were made again.
        found, numbers = sift.detectAndCompute(grey, None)
        if found:
            kept = _spread(found, wide, high)
            points = np.array([found[place].pt for place in kept], np.float32)
            points *= np.array([width / wide, height / high], np.float32)
            descriptors = _root(np.asarray(numbers, np.float32)[kept])
    scale = min(1.0, SMALL / max(high, wide))
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    return LocalFeatures(width, height, points, descriptors, small)


def _root(descriptors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the square roots of descriptors, whose sums are made 1 first: uint8 [n, 128]."""
    sums = np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    roots = np.rint(_SCALE * np.sqrt(descriptors / sums))
    return np.asarray(np.minimum(roots, 255), np.uint8)


def _spread(found: "tuple[cv2.KeyPoint, ...] | list[cv2.KeyPoint]", wide: int, high: int) -> list[int]:
    """Return which keypoints are kept, so that each part of the picture has some: the strongest of each."""
    order = sorted(range(len(found)), key=lambda place: -found[place].response)
    if len(order) <= MOST:
        return order
    rounds: dict[tuple[int, int], int] = {}
    turns = []
    for place in order:
        x, y = found[place].pt
        cell = int(x * _CELLS / wide), int(y * _CELLS / high)
        rounds[cell] = rounds.get(cell, 0) + 1
        turns.append(rounds[cell])
    best = sorted(range(len(order)), key=lambda rank: (turns[rank], rank))[:MOST]
    return [order[rank] for rank in sorted(best)]
