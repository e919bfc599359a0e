"""What a comparison of two pictures finds."""

from dataclasses import dataclass
from typing import Final

Polygon = tuple[tuple[float, float], ...]
"""Corners, x and y, in turn."""

MOST_CORNERS: Final = 16

LEAST_AGREEMENT: Final = 0.5
"""The least correlation of the pictures of a pair that is the same, where they are laid over each other."""


@dataclass(frozen=True)
class Proof:
    """What was found of a pair, A and B.

    Attributes:
        same: Whether they show the same.
        inliers: Features that one geometry lays over their likes: what the decision rests on.
        matches: Features that were found alike, wherever they lie.
        agreement: Correlation of the pictures where they are laid over each other, -1 to 1.
        spread: The part of the shared region that the inliers span, 0 to 1.
        mirrored: Whether one shows the other as in a mirror.
        in_a: The part of A that B shows: its corners, in pixels of A; empty if they are not the same.
        in_b: The part of B that A shows, in pixels of B.
        reason: Why they are not the same; empty if they are.
    """

    same: bool
    inliers: int
    matches: int
    agreement: float = 0.0
    spread: float = 0.0
    mirrored: bool = False
    in_a: Polygon = ()
    in_b: Polygon = ()
    reason: str = ""


def box_of(polygon: Polygon) -> tuple[int, int, int, int]:
    """Return left, top, width and height of what a polygon spans, in whole pixels."""
    across, down = [x for x, _ in polygon], [y for _, y in polygon]
    left, top = int(min(across)), int(min(down))
    return left, top, max(1, round(max(across)) - left), max(1, round(max(down)) - top)
