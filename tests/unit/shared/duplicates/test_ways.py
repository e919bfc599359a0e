"""In which ways a copy differs from its original."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from shared.duplicates.pairs import Way
from shared.duplicates.ways import ways_of
from shared.images import DEFAULT_LIMITS
from shared.proof.child import local_features_of
from shared.proof.comparison import compare
from tests.support.pictures import detailed


def saved(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def part(original: Image.Image) -> Image.Image:
    return original.crop((original.width // 4, original.height // 8, original.width, original.height))


def half(original: Image.Image) -> Image.Image:
    return original.resize((original.width // 2, original.height // 2))


def bright(original: Image.Image) -> Image.Image:
    return Image.fromarray(np.clip(np.asarray(original) * 1.25, 0, 255).astype(np.uint8))


def written_on(original: Image.Image) -> Image.Image:
    copy = original.copy()
    ImageDraw.Draw(copy).rectangle((0, round(0.75 * copy.height), copy.width, copy.height), fill=(20, 20, 20))
    return copy


@pytest.mark.parametrize(
    ("change", "ways"),
    [
        (Image.Image.copy, {"re-encoded"}),
        (half, {"resized"}),
        (part, {"cropped"}),
        (lambda original: half(part(original)), {"resized", "cropped"}),
        (ImageOps.mirror, {"mirrored"}),
        (bright, {"retouched"}),
        (written_on, {"retouched"}),
    ],
)
def test_the_ways_in_which_a_copy_differs_are_told(
    change: Callable[[Image.Image], Image.Image], ways: set[Way]
) -> None:
    original = detailed(11)
    first, second = (
        local_features_of(data, longest=1000, limits=DEFAULT_LIMITS)
        for data in (saved(original, 95), saved(change(original), 60))
    )
    proof = compare(first, second)
    assert proof.same, proof.reason
    size_a, size_b = ((one.width, one.height) for one in (first, second))
    assert set(ways_of(proof, size_a, size_b, first.small, second.small)) == ways
