"""Compares plain pictures by their pixels: they have too few local features to be told by."""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.images.likeness import NEAR_COPY, SIDE, descriptor, likeness
from shared.proof.features import LocalFeatures
from shared.proof.findings import Polygon, Proof

_FEW_FEATURES: Final = 120  # which may all be lost in a copy


def compared_by_pixels(one: LocalFeatures, other: LocalFeatures) -> Proof | None:
    """Return that two plain pictures show the same, if their pixels say so (`shared.images.likeness`); else None."""
    if min(len(one), len(other)) >= _FEW_FEATURES:
        return None
    similarity, mirrored = likeness(*(descriptor(_square(each.small)) for each in (one, other)))
    if similarity < NEAR_COPY:
        return None
    return Proof(
        same=True,
        inliers=0,
        matches=0,
        agreement=round(similarity, 3),
        mirrored=mirrored,
        in_a=_whole(one),
        in_b=_whole(other),
    )


def _square(small: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.uint8)


def _whole(picture: LocalFeatures) -> Polygon:
    width, height = float(picture.width), float(picture.height)
    return (0.0, 0.0), (width, 0.0), (width, height), (0.0, height)
