"""Copies of a picture are told by its pixels, and other pictures are none, however alike their composition is."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from shared.images import ImageRefused, grey
from shared.images.likeness import NEAR_COPY, SIDE, Floats, descriptor, likeness
from tests.support.examples import examples


def painted(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Return something like a photograph: patches of all sizes, one over the other."""
    rng = np.random.default_rng(seed)
    made = Image.new("RGB", size)
    for cells in (3, 6, 12, 24):
        layer = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        made = Image.blend(made, layer.resize(size, Image.Resampling.BICUBIC), 0.5)
    return made


def saved(image: Image.Image, *, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def seen(image: Image.Image, *, quality: int = 90) -> Floats:
    return descriptor(grey(saved(image, quality=quality), side=SIDE))


def without(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Return a picture without these shares of it at its sides."""
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


COPIES: dict[str, Callable[[Image.Image], Floats]] = {
    "saved again": lambda image: seen(image, quality=40),
    "half the size": lambda image: seen(image.resize((image.width // 2, image.height // 2))),
    "without its left and its top": lambda image: seen(without(image, 0.05, 0.05, 0, 0)),
    "without a little all around": lambda image: seen(without(image, 0.025, 0.025, 0.025, 0.025)),
    "mirrored": lambda image: seen(ImageOps.mirror(image)),
    "mirrored and cropped": lambda image: seen(ImageOps.mirror(without(image, 0.05, 0, 0, 0.05))),
    "grey": lambda image: seen(image.convert("L").convert("RGB")),
    "brighter": lambda image: seen(image.point(lambda level: 40 + 3 * level // 4)),
}


@pytest.mark.parametrize("change", COPIES)
@pytest.mark.parametrize("seed", range(4))
def test_a_copy_is_one_whichever_way_it_is_compared(change: str, seed: int) -> None:
    image = painted(seed)
    copy = COPIES[change](image)
    found, mirrored = likeness(seen(image), copy)
    assert NEAR_COPY <= found <= 1
    assert mirrored == ("mirrored" in change)
    assert likeness(copy, seen(image)) == pytest.approx((found, mirrored), abs=1e-6)


def test_other_pictures_are_no_copies() -> None:
    all_of = [seen(painted(seed)) for seed in range(12)]
    found = [likeness(a, b)[0] for place, a in enumerate(all_of) for b in all_of[:place]]
    assert max(found) < NEAR_COPY - 0.1


def test_the_same_ground_does_not_make_two_objects_alike() -> None:
    """Dark oblongs on white correlate by more than 0.9 as they are; what they show decides."""
    on_white = []
    for seed in (1, 2):
        image = Image.new("RGB", (300, 300), "white")
        image.paste(ImageOps.autocontrast(painted(seed, (200, 240))).point(lambda level: level // 2), (50, 30))
        on_white.append(image)
    flat = [np.asarray(image.convert("L"), dtype=np.float64).ravel() for image in on_white]
    assert np.corrcoef(np.array(flat)).min() > 0.9
    assert likeness(*(seen(image) for image in on_white))[0] < NEAR_COPY


def test_a_picture_of_one_shade_is_like_none() -> None:
    blank = seen(Image.new("RGB", (64, 64), (120, 120, 120)))
    assert not blank.any()
    assert likeness(blank, blank) == (0.0, False)
    assert likeness(blank, seen(painted(0)))[0] == 0.0


@examples(30)
@given(st.integers(0, 2**32 - 1))
def test_every_picture_is_a_copy_of_itself(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    rows = descriptor(noise)
    assert rows.shape == (256, 576)
    assert np.abs(rows.mean(axis=1)).max() < 1e-5
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-4)
    found, mirrored = likeness(rows, rows)
    assert found == pytest.approx(1, abs=1e-4)
    assert not mirrored


def test_a_grey_square_is_the_whole_picture_upright() -> None:
    image = Image.new("RGB", (90, 30), "black")
    image.paste("white", (0, 0, 45, 15))
    exif = Image.Exif()
    exif[274] = 2  # mirrored as it is stored
    file = io.BytesIO()
    ImageOps.mirror(image).save(file, "PNG", exif=exif)
    for data in (saved(image, quality=95), file.getvalue()):
        square = grey(data, side=SIDE)
        assert square.shape == (SIDE, SIDE)
        assert square.dtype == np.uint8
        assert square[10, 10] > 245
        assert max(square[10, 38], square[38, 10], square[38, 38]) < 10
    with pytest.raises(ImageRefused):
        grey(b"no image at all", side=SIDE)
