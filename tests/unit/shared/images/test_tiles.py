"""Tiles of pictures: put together, they are the picture."""

import io

import numpy as np
import pytest
from PIL import Image

from shared.errors import NotFound
from shared.images import decoding, tiles
from shared.images.contract import MIB, Limits
from shared.images.tiles import last_level, part_of
from tests.support.pictures import saved

SIDE = 96  # of the tiles that the pictures here are cut into
WIDTH, HEIGHT = 2 * SIDE + 31, SIDE + 37


def put_together(data: bytes, level: int) -> Image.Image:
    """Return the picture that the tiles of a level make; no tile is missing, and there are no more."""
    shrink = 1 << (last_level(WIDTH, HEIGHT) - level)
    size = -(-WIDTH // shrink), -(-HEIGHT // shrink)
    whole = Image.new("RGB", size)
    across, down = -(-size[0] // SIDE), -(-size[1] // SIDE)
    for x in range(across):
        for y in range(down):
            part, factor = part_of(WIDTH, HEIGHT, level=level, x=x, y=y)
            tile = Image.open(io.BytesIO(decoding.tile(data, part=part, shrink=factor)))
            assert tile.format == "JPEG"
            assert tile.size == (min(SIDE, size[0] - x * SIDE), min(SIDE, size[1] - y * SIDE))
            whole.paste(tile, (x * SIDE, y * SIDE))
    for x, y in ((across, 0), (0, down)):
        with pytest.raises(NotFound, match=f"has {across} x {down} tiles"):
            part_of(WIDTH, HEIGHT, level=level, x=x, y=y)
    return whole


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_tiles_of_a_level_are_the_picture_at_its_size(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "SIDE", SIDE)
    across, down = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    picture = Image.fromarray(np.stack([across, down, (across + down) // 2], axis=-1).astype(np.uint8))
    data = saved(picture, kind)
    last = last_level(WIDTH, HEIGHT)
    for level in (last, last - 1, last - 3):
        found = put_together(data, level)
        wanted = picture.resize(found.size, Image.Resampling.BOX)
        apart = np.abs(np.asarray(found).astype(int) - np.asarray(wanted).astype(int))
        assert apart.mean() < 2
        assert np.percentile(apart, 99) < 8


def test_a_jpeg_that_is_too_large_for_memory_is_cut_at_full_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_LARGE", MIB)
    lines = np.tile(np.array([[0], [255]], np.uint8), (400, 1000))
    data = saved(Image.fromarray(lines), "JPEG", quality=95)
    limits = Limits(max_memory=2 * MIB, max_pixels=10**9)
    sharp = np.asarray(Image.open(io.BytesIO(decoding.tile(data, part=(600, 300, 900, 500), shrink=1, limits=limits))))
    assert sharp.shape[:2] == (200, 300)
    assert sharp.std() > 100


def test_tiles_are_upright_and_in_srgb() -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned
    data = saved(Image.new("RGB", (30, 50), (10, 20, 200)), "JPEG", exif=exif)
    part, shrink = part_of(50, 30, level=last_level(50, 30), x=0, y=0)
    assert (part, shrink) == ((0, 0, 50, 30), 1)
    assert Image.open(io.BytesIO(decoding.tile(data, part=part, shrink=1))).size == (50, 30)
    inks = Image.new("CMYK", (40, 30), (0, 255, 255, 0))
    tile = Image.open(io.BytesIO(decoding.tile(saved(inks, "TIFF"), part=(0, 0, 40, 30), shrink=1)))
    assert tile.mode == "RGB"
    assert tile.getpixel((5, 5))[0] > 150  # type: ignore[index]


def test_levels_are_those_of_deep_zoom() -> None:
    assert [last_level(*size) for size in ((1, 1), (2, 1), (1, 3), (2048, 5), (2049, 5), (20_000, 15_000))] == [
        0, 1, 2, 11, 12, 15,
    ]  # fmt: skip
    assert part_of(20_000, 15_000, level=0, x=0, y=0) == ((0, 0, 20_000, 15_000), 1 << 15)
    assert part_of(20_000, 15_000, level=15, x=9, y=7) == ((18_432, 14_336, 20_000, 15_000), 1)
    with pytest.raises(NotFound, match="no level 16: its last is 15"):
        part_of(20_000, 15_000, level=16, x=0, y=0)
