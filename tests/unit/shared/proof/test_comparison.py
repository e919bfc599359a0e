"""Copies are recognised, with the region that they share; pictures that only look alike are not."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from shared.proof.comparison import LEAST_INLIERS
from shared.proof.findings import Polygon, Proof, box_of
from shared.proof.geometry import is_sound
from tests.unit.shared.proof.pictures import Grey, drawn, features, proof

WIDTH, HEIGHT = 320, 240
ORIGINAL = drawn(1)
WHOLE = 0, 0, WIDTH, HEIGHT


def near(polygon: Polygon, expected: tuple[int, int, int, int]) -> bool:
    """Return whether no edge is off by more than a tenth of its side."""
    left, top, width, height = box_of(polygon)
    x, y, wide, high = expected
    off_x = max(abs(left - x), abs(left + width - x - wide))
    off_y = max(abs(top - y), abs(top + height - y - high))
    return off_x <= 0.1 * wide and off_y <= 0.1 * high


def reencoded(picture: Grey) -> Grey:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 30])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def captioned(picture: Grey) -> Grey:
    copy = picture.copy()
    copy[200:] = 20
    cv2.putText(copy, "plate 14", (8, 230), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 240, 2)
    return copy


def scanned(picture: Grey) -> Grey:
    noise = np.random.default_rng(3).normal(0, 12, picture.shape)
    return np.clip(picture * np.linspace(0.85, 1.1, WIDTH) + noise, 0, 255).astype(np.uint8)


def turned(picture: Grey) -> Grey:
    matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 15, 1.0)
    return np.asarray(cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), borderValue=255), np.uint8)


@pytest.mark.parametrize(
    ("copied", "in_original", "in_copy"),
    [
        (reencoded, WHOLE, WHOLE),
        (lambda picture: picture[60:180, 80:240], (80, 60, 160, 120), (0, 0, 160, 120)),
        (lambda picture: cv2.resize(picture, (160, 120), interpolation=cv2.INTER_AREA), WHOLE, (0, 0, 160, 120)),
        (turned, WHOLE, WHOLE),
        (lambda picture: (255 - (255 - picture.astype(float)) * 0.6).astype(np.uint8), WHOLE, WHOLE),
        (scanned, WHOLE, WHOLE),
        (captioned, WHOLE, WHOLE),
        (lambda picture: cv2.copyMakeBorder(picture, 60, 60, 80, 80, cv2.BORDER_CONSTANT, value=255), WHOLE,
         (80, 60, WIDTH, HEIGHT)),
    ],
    ids=["jpeg", "crop", "resize", "rotation", "shades", "scan", "caption", "mount"],
)  # fmt: skip
def test_a_copy_is_the_same_with_its_region(
    copied: Callable[[Grey], Grey], in_original: tuple[int, int, int, int], in_copy: tuple[int, int, int, int]
) -> None:
    copy = copied(ORIGINAL)
    found = proof(ORIGINAL, copy)
    assert found.same, found
    assert not found.mirrored
    assert found.inliers >= LEAST_INLIERS
    assert near(found.in_a, in_original)
    assert near(found.in_b, in_copy)
    mirrored = proof(ORIGINAL, copy[:, ::-1])
    assert (mirrored.same, mirrored.mirrored) == (True, True)
    assert near(mirrored.in_a, in_original)
    left, top, width, height = in_copy
    assert near(mirrored.in_b, (copy.shape[1] - left - width, top, width, height))


def test_a_proof_is_the_same_every_time() -> None:
    assert proof(ORIGINAL, turned(ORIGINAL)) == proof(ORIGINAL, turned(ORIGINAL))


def test_other_pictures_are_not_the_same() -> None:
    others = [drawn(seed) for seed in range(2, 8)]
    found = [proof(ORIGINAL, other) for other in others]
    assert [one.same for one in found] == [False] * len(others)
    assert all(one.reason and one.in_a == one.in_b == () for one in found)


def framed(picture: Grey) -> Grey:
    frame = drawn(50, width=420, height=340)
    frame[50:290, 50:370] = picture
    return frame


def marked(picture: Grey) -> Grey:
    copy = picture.copy()
    copy[180:200] = drawn(51, width=WIDTH, height=20)
    return copy


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (framed(ORIGINAL), framed(drawn(9))),
        (marked(ORIGINAL), marked(drawn(9))),
        (np.full((240, 320), 128, np.uint8), np.full((240, 320), 128, np.uint8)),
        (np.zeros((4, 4), np.uint8), ORIGINAL),
    ],
    ids=["frame", "strip", "one shade", "tiny"],
)
def test_what_many_pictures_share_proves_nothing(first: Grey, second: Grey) -> None:
    found: Proof = proof(first, second)
    assert not found.same, found
    assert found.reason


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([1.0, -1.0, 1.0]),  # mirrored
        np.diag([0.01, 0.01, 1.0]),  # next to nothing
        np.diag([3.0, 1.0, 1.0]),  # drawn out
        np.array([[1, 1.5, 0], [0, 1, 0], [0, 0, 1.0]]),  # skewed
        np.array([[1, 0, 0], [0, 1, 0], [-2, 0, 1.0]]),  # folded
        np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1.0]]),  # a line
        np.full((3, 3), np.nan),
    ],
)
def test_a_degenerate_geometry_is_none_of_a_copy(matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    assert not is_sound(matrix, 1.0, 0.75)
    assert is_sound(np.eye(3), 1.0, 0.75)


def test_a_picture_has_a_bounded_number_of_features_all_over_it() -> None:
    found = features(drawn(70, width=1000, height=1000))
    assert len(found) <= 800
    quarters = {(bool(x > 500), bool(y > 500)) for x, y in found.points}
    assert len(quarters) == 4
