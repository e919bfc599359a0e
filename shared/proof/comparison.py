"""Whether two pictures show the same, by their local features: one geometry that lays many of them over each other."""

from dataclasses import replace
from math import ceil, comb, log, log1p
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from shared.proof.features import LENGTH, LocalFeatures
from shared.proof.findings import LEAST_AGREEMENT, Polygon, Proof
from shared.proof.geometry import hull_area, is_sound, overlap, polygon_area, projected

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

LEAST_INLIERS: Final = 8
"""The inliers that a pair has at least that is the same."""

LEAST_INNER_AGREEMENT: Final = 0.72
"""The least correlation of the middle of what is laid over each other: else a frame around it may be alike alone."""

LEAST_SPREAD: Final = 0.05
"""The least part of the shared region that the inliers span: else only a mark or a strip is alike."""

_RATIO: Final = 0.85  # of the distances to the nearest feature and to the next
_TOLERANCE: Final = 0.012  # of the longer side
_UNIT: Final = 512.0  # length of a descriptor
_ITERATIONS: Final = 5000
_CONFIDENCE: Final = 0.999
_SAMPLE: Final = 3  # pairs of points that an affine geometry follows from
_TRIED: Final = 5  # times as many samples as are enough if every one of inliers alone lays all others right
_NOTHING: Final = 1e-9
_LEAST_OVERLAP: Final = 0.004  # of a square over the longer side
_LEAST_PIXELS: Final = 40
_AROUND: Final = 4.0  # pixels
_FAINT: Final = 6.0  # shades
_BLANK: Final = 0.25
_PLACE: Final = 0.004  # of the longer side
_HALF_PIXEL: Final = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
_HALF_PIXEL_BACK: Final = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
_MIRRORED: Final = np.arange(LENGTH).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()


Model = Literal["affine", "homography"]


def compare(first: LocalFeatures, second: LocalFeatures, *, model: Model = "affine") -> Proof:
    """Return whether two pictures show the same, upright or mirrored."""
    upright = _attempt(first, second, mirrored=False, model=model)
    if upright.same and upright.inliers >= 4 * LEAST_INLIERS:
        return upright
    other = _attempt(first, second, mirrored=True, model=model)
    return max(upright, other, key=lambda proof: (proof.same, proof.inliers))


def _attempt(first: LocalFeatures, second: LocalFeatures, *, mirrored: bool, model: Model) -> Proof:
    turned = mirror(first) if mirrored else first
    pairs = _matches(turned.descriptors, second.descriptors)
    count = len(pairs)
    if count < LEAST_INLIERS:
        return Proof(same=False, inliers=0, matches=count, mirrored=mirrored, reason="too few features are alike")
    # Both are looked at as if their longer sides were 1.
    scale_a, scale_b = (float(max(picture.width, picture.height)) for picture in (turned, second))
    source = (turned.points[pairs[:, 0]] / scale_a).astype(np.float32)
    target = (second.points[pairs[:, 1]] / scale_b).astype(np.float32)
    found = _fitted(source, target, model)
    if found is None:
        return Proof(same=False, inliers=0, matches=count, mirrored=mirrored, reason="no geometry fits")
    matrix, inside = found
    inliers = _distinct(source[inside], target[inside])
    size_a = turned.width / scale_a, turned.height / scale_a
    size_b = second.width / scale_b, second.height / scale_b
    said = Proof(same=False, inliers=inliers, matches=count, mirrored=mirrored)
    return _judged(said, (turned, second), matrix, (source[inside], target[inside]), (size_a, size_b))


def _judged(
    said: Proof,
    pair: tuple[LocalFeatures, LocalFeatures],
    matrix: Matrix,
    inliers: tuple[Floats, Floats],
    sizes: tuple[tuple[float, float], tuple[float, float]],
) -> Proof:
    """Return what is to be made of a geometry that fits."""
    back = _inverse(matrix)
    if not is_sound(matrix, *sizes[0]) or not is_sound(back, *sizes[1]):
        return replace(said, reason="the geometry is none of a copy")
    region = overlap(matrix, *sizes)
    shared = polygon_area(region)
    if shared < _LEAST_OVERLAP:
        return replace(said, reason="they share too little")
    spread = min(1.0, hull_area(inliers[1]) / shared)
    agreement, inner = _agreement(pair, matrix, sizes)
    if said.mirrored:
        width = pair[0].width
    scale_a, scale_b = (max(picture.width, picture.height) for picture in pair)
    in_a = projected(region, back) * scale_a
    if said.mirrored:
        in_a = np.array([width, 0], np.float32) + in_a * np.array([-1, 1], np.float32)
    said = replace(said, spread=round(spread, 3), agreement=round(agreement, 3))
    reason = _objection(said, inner)
    if reason:
        return replace(said, reason=reason)
    return replace(
        said,
        same=True,
        in_a=_polygon(in_a, pair[0].width, pair[0].height),
        in_b=_polygon(region * scale_b, pair[1].width, pair[1].height),
    )


def _inverse(matrix: Matrix) -> Matrix:
    """Return the geometry back; numbers that are none where there is no way back."""
    if abs(np.linalg.det(matrix)) <= _NOTHING:
        return np.full((3, 3), np.nan)
    return np.asarray(np.linalg.inv(matrix), np.float64)


def _objection(said: Proof, inner: float) -> str:
    """Return what speaks against the pair, whose middles agree so far; nothing if they are the same."""
    if said.inliers < LEAST_INLIERS:
        return "too few features lie over each other"
    if said.spread < LEAST_SPREAD:
        return "what is alike is a strip or a mark on both"
    if said.agreement < LEAST_AGREEMENT:
        return "laid over each other, the pictures differ"
    if inner < LEAST_INNER_AGREEMENT:
        return "what is alike is a frame around different pictures"
    return ""


def _polygon(points: Floats, width: int, height: int) -> Polygon:
    within = np.clip(points, 0, [width, height]).round(1)
    return tuple((float(x), float(y)) for x, y in within)


def _agreement(
    pair: tuple[LocalFeatures, LocalFeatures],
    matrix: Matrix,
    sizes: tuple[tuple[float, float], tuple[float, float]],
) -> tuple[float, float]:
    """Return the correlation of the small copies where they are laid over each other, and that of the middle of it."""
    first, second = pair
    (high_a, wide_a), (high_b, wide_b) = first.small.shape, second.small.shape
    # In units of the sides, to pixels of the small copies.
    to_a = np.diag([wide_a / sizes[0][0], high_a / sizes[0][1], 1.0])
    to_b = np.diag([wide_b / sizes[1][0], high_b / sizes[1][1], 1.0])
    between = to_b @ matrix @ np.linalg.inv(to_a)
    if np.linalg.det(between[:2, :2]) > 1:  # the coarser of the two says what can be compared
        return _correlation(second.small, first.small, _inverse(between))
    return _correlation(first.small, second.small, between)


def _correlation(source: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8], matrix: Matrix) -> tuple[float, float]:
    centred = _HALF_PIXEL_BACK @ matrix @ _HALF_PIXEL
    scale = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    smooth = cv2.GaussianBlur(source, (0, 0), 0.5 / scale) if scale < 0.8 else source
    size = target.shape[1], target.shape[0]
    laid = cv2.warpPerspective(smooth, centred, size, flags=cv2.INTER_LINEAR).astype(np.float32)
    mask = cv2.warpPerspective(np.ones(source.shape, np.float32), centred, size, flags=cv2.INTER_LINEAR) > 0.99
    if mask.sum() < _LEAST_PIXELS:
        return 0.0, 0.0
    one, other = _even(laid, mask), _even(target.astype(np.float32), mask)
    whole = _cosine(one[mask], other[mask])
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    middle = np.zeros_like(mask)
    middle[_half(rows), _half(columns)] = True
    middle &= mask
    if middle.sum() < _LEAST_PIXELS or max(one[middle].std(), other[middle].std()) < _BLANK:
        return whole, whole  # there is nothing in the middle that could differ
    return whole, _cosine(one[middle], other[middle])


def _half(places: npt.NDArray[np.int64]) -> slice:
    """Return the middle half of rows or columns."""
    first, length = int(places[0]), int(places[-1] - places[0] + 1)
    return slice(first + length // 4, first + length - length // 4)


def _cosine(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length > 0 else 0.0


def _even(picture: Floats, mask: npt.NDArray[np.bool_]) -> Floats:
    """Return a picture less the surroundings of each pixel, in units of the contrast there: float32 [h, w]."""
    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), _AROUND) + 1e-6
    mean = cv2.GaussianBlur(picture * mask, (0, 0), _AROUND) / weight
    apart = (picture - mean) * mask
    contrast = np.sqrt(cv2.GaussianBlur(apart * apart, (0, 0), _AROUND) / weight) + _FAINT
    return np.asarray(np.clip(apart / contrast, -2, 2), np.float32)


def mirror(features: LocalFeatures) -> LocalFeatures:
    """Return the features that the mirror image of a picture has.

    A mirror turns the order of the rows of a descriptor's cells around, and the sense of its angles.
    """
    points = np.array([features.width, 0], np.float32) + features.points * np.array([-1, 1], np.float32)
    return replace(
        features,
        points=np.asarray(points, np.float32),
        descriptors=features.descriptors[:, _MIRRORED],
        small=np.ascontiguousarray(features.small[:, ::-1]),
    )


def _matches(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the pairs of descriptors of which each is the other's nearest, and clearly so: int64 [n, 2]."""
    if len(first) < 2 or len(second) < 2:
        return np.empty((0, 2), np.int64)
    alike = (first.astype(np.float32) / _UNIT) @ (second.astype(np.float32) / _UNIT).T
    places = np.arange(len(alike))
    best = np.argmax(alike, axis=1)
    clear = np.flatnonzero(_is_clear(alike, places, best, axis=1))
    columns = alike[:, best[clear]]  # the way back, of those alone that are left
    back = np.argmax(columns, axis=0)
    mutual = (back == clear) & _is_clear(columns, back, np.arange(len(clear)), axis=0)
    rows = clear[mutual]
    return np.stack([rows, best[rows]], axis=1)


def _is_clear(
    alike: Floats, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], *, axis: int
) -> npt.NDArray[np.bool_]:
    """Return which of the nearest, at these places, are clearly nearer than the next along an axis: bool [n]."""
    nearest = alike[rows, columns]
    alike[rows, columns] = -1
    next_one = alike.max(axis=axis, initial=-1)
    alike[rows, columns] = nearest
    near, far = (np.sqrt(np.maximum(0, 2 - 2 * values)) for values in (nearest, next_one))
    return np.asarray(near < _RATIO * far)


def _fitted(source: Floats, target: Floats, model: Model) -> tuple[Matrix, npt.NDArray[np.bool_]] | None:
    """Return the geometry that lays most points over their counterparts [3, 3], and which; None if none does."""
    if model == "affine":
        found, inside = cv2.estimateAffine2D(
            source,
            target,
            method=cv2.RANSAC,
            ransacReprojThreshold=_TOLERANCE,
            maxIters=_iterations(len(source)),
            confidence=_CONFIDENCE,
        )
        matrix = None if found is None else np.vstack([found, [0, 0, 1]])
    else:
        matrix, inside = cv2.findHomography(
            source, target, cv2.USAC_MAGSAC, _TOLERANCE, maxIters=_ITERATIONS, confidence=_CONFIDENCE
        )
    if matrix is None or inside is None or not np.isfinite(matrix).all():
        return None
    return np.asarray(matrix, np.float64), np.asarray(inside).ravel().astype(bool)


def _iterations(count: int) -> int:
    """Return how many samples of so many pairs of points are tried: few are enough where few pairs are alike.

    Of the fewest inliers that count, a share of the samples has nothing else; one of these is to be among those tried.
    """
    share = comb(LEAST_INLIERS, _SAMPLE) / comb(count, _SAMPLE)
    return min(_ITERATIONS, ceil(_TRIED * log(1 - _CONFIDENCE) / log1p(-min(share, _CONFIDENCE))))


def _distinct(source: Floats, target: Floats) -> int:
    """Return how many inliers lie at places of their own in both pictures: features upon each other say one thing."""
    return min(len(np.unique(np.rint(points / _PLACE).astype(np.int64), axis=0)) for points in (source, target))
