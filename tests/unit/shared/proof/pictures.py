"""Pictures drawn in code, and copies of them."""

import cv2
import numpy as np
import numpy.typing as npt

from shared.proof.comparison import compare
from shared.proof.extraction import local_features
from shared.proof.features import LocalFeatures
from shared.proof.findings import Proof

Grey = npt.NDArray[np.uint8]


def drawn(seed: int, *, width: int = 320, height: int = 240) -> Grey:
    """Return a picture of many shapes: uint8 [height, width]."""
    chance = np.random.default_rng(seed)
    picture = np.full((height, width), 200, np.uint8)
    for _ in range(110):
        x, y = int(chance.integers(width)), int(chance.integers(height))
        size, shade = int(chance.integers(4, 26)), int(chance.integers(0, 255))
        if chance.random() < 0.5:
            cv2.circle(picture, (x, y), size, shade, -1)
        else:
            corners = np.array([x, y]) + chance.integers(-size, size, (4, 2))
            cv2.fillPoly(picture, [corners.astype(np.int32)], shade)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8), np.uint8)


def features(picture: Grey) -> LocalFeatures:
    """Return the local features of a picture."""
    return local_features(np.ascontiguousarray(picture), width=picture.shape[1], height=picture.shape[0])


def proof(first: Grey, second: Grey) -> Proof:
    """Return what is found of two pictures."""
    return compare(features(first), features(second))
