"""In which ways the pictures of a verified pair differ."""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.duplicates.pairs import Way
from shared.proof.findings import Polygon, Proof, box_of

Grey = npt.NDArray[np.uint8]

_WHOLE: Final = 0.95  # of the area: what is missing less is the edge of a geometry
_SAME_SCALE: Final = 0.02
_SIDE: Final = 48  # pixels
_RETOUCHED: Final = 5.0  # shades, in the mean: JPEG of quality 30 changes fewer
_RETOUCHED_PART: Final = 12.0  # of parts, whose edges are not exact


def ways_of(
    proof: Proof, size_a: tuple[int, int], size_b: tuple[int, int], small_a: Grey, small_b: Grey
) -> tuple[Way, ...]:
    """Return in which ways the pictures of a pair that shows the same differ, as far as small copies tell.

    Args:
        proof: What was found of the pair.
        size_a: Width and height of A, in pixels.
        size_b: Width and height of B.
        small_a: A in shades of grey, at a small size and in its shape: uint8 [h, w].
        small_b: The same of B.
    """
    area_a, area_b = _area(proof.in_a), _area(proof.in_b)
    is_part = min(area_a / (size_a[0] * size_a[1]), area_b / (size_b[0] * size_b[1])) < _WHOLE
    scale = float(np.sqrt(area_b / area_a)) if area_a > 0 else 1.0
    ways: list[Way] = []
    # Of whole pictures the sizes tell more exactly than the geometry.
    if abs(scale - 1) > _SAME_SCALE if is_part else size_a != size_b:
        ways.append("resized")
    if is_part:
        ways.append("cropped")
    if proof.mirrored:
        ways.append("mirrored")
    part_a = _part(small_a, proof.in_a, size_a, mirrored=proof.mirrored)
    part_b = _part(small_b, proof.in_b, size_b, mirrored=False)
    apart = float(np.abs(part_a.astype(np.float32) - part_b.astype(np.float32)).mean())
    if apart > (_RETOUCHED_PART if is_part else _RETOUCHED):
        ways.append("retouched")
    return tuple(ways) or ("re-encoded",)


def _area(polygon: Polygon) -> float:
    """Return the area of a polygon in its corners' units (the shoelace formula)."""
    across, down = (np.array([corner[side] for corner in polygon]) for side in (0, 1))
    return float(abs(across @ np.roll(down, -1) - down @ np.roll(across, -1)) / 2)


def _part(small: Grey, polygon: Polygon, size: tuple[int, int], *, mirrored: bool) -> Grey:
    """Return what a polygon spans, squeezed into a square: uint8 [48, 48]."""
    left, top, width, height = box_of(polygon)
    across, down = small.shape[1] / size[0], small.shape[0] / size[1]
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    within = max(0.0, box[0]), max(0.0, box[1]), min(small.shape[1], box[2]), min(small.shape[0], box[3])
    square = np.asarray(Image.fromarray(small).resize((_SIDE, _SIDE), Image.Resampling.BOX, box=within))
    return square[:, ::-1] if mirrored else square
