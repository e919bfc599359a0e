"""The geometry between two pictures: whether it is one that a copy may have, and what it lays over what."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Points = npt.NDArray[np.float32]
_SCALES: Final = 1 / 12, 12.0
"""Lengths in one picture against those in the other, each measured by its longer side."""

_MOST_STRETCH: Final = 2.0  # lengths in one direction against those across
_MOST_SKEW: Final = 0.6  # radians that a right angle may be off
_MOST_DEPTH: Final = 1.6  # of lengths near a corner against those near another


def corners(width: float, height: float) -> Points:
    """Return the corners of a frame, in turn: float32 [4, 2]."""
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


def projected(points: Points, matrix: Matrix) -> Points:
    """Return where a geometry [3, 3] lays points: float32 [n, 2]."""
    laid = points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(laid[:, :2] / laid[:, 2:], np.float32)


def is_sound(matrix: Matrix, width: float, height: float) -> bool:
    """Return whether a geometry is one of a copy: it neither folds nor mirrors a frame, and hardly bends it."""
    frame = corners(width, height)
    depths = frame.astype(np.float64) @ matrix[2, :2] + matrix[2, 2]
    if not np.isfinite(matrix).all() or depths.min() <= 0 or depths.max() > _MOST_DEPTH * depths.min():
        return False
    laid = projected(frame, matrix)
    if not cv2.isContourConvex(laid):
        return False
    middle = np.array([width / 2, height / 2])
    depth = matrix[2, :2] @ middle + matrix[2, 2]
    place = (matrix[:2, :2] @ middle + matrix[:2, 2]) / depth
    local = (matrix[:2, :2] - np.outer(place, matrix[2, :2])) / depth  # the derivative there
    if np.linalg.det(local) <= 0:
        return False
    along, across = np.linalg.svd(local, compute_uv=False)
    right, down = local[:, 0], local[:, 1]
    angle = np.arccos(np.clip(right @ down / (np.linalg.norm(right) * np.linalg.norm(down)), -1, 1))
    sizes = _SCALES[0] <= across and along <= _SCALES[1]
    return bool(sizes and along <= _MOST_STRETCH * across and abs(angle - np.pi / 2) <= _MOST_SKEW)


def overlap(matrix: Matrix, size_a: tuple[float, float], size_b: tuple[float, float]) -> Points:
    """Return the part of B's frame that A's frame covers: its corners, float32 [n, 2]; none if they are apart.

    Clipped at one side of B after another (Sutherland and Hodgman: Reentrant polygon clipping, 1974).
    """
    shape = projected(corners(*size_a), matrix).astype(np.float64)
    for axis, limit in enumerate(size_b):
        for sign, edge in ((1.0, 0.0), (-1.0, -limit)):
            inside = sign * shape[:, axis] - edge
            kept = []
            for place in range(len(shape)):
                here, there = inside[place], inside[(place + 1) % len(shape)]
                if here >= 0:
                    kept.append(shape[place])
                if (here >= 0) != (there >= 0):
                    kept.append(shape[place] + here / (here - there) * (shape[(place + 1) % len(shape)] - shape[place]))
            shape = np.array(kept).reshape(-1, 2)
    return shape.astype(np.float32)


def polygon_area(points: Points) -> float:
    """Return the area of a polygon."""
    return float(cv2.contourArea(points)) if len(points) >= 3 else 0.0


def hull_area(points: Points) -> float:
    """Return the area that points span."""
    return polygon_area(np.asarray(cv2.convexHull(points), np.float32).reshape(-1, 2)) if len(points) >= 3 else 0.0
