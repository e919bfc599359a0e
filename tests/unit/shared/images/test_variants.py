"""Variants of formats that are met seldom: each shows its right pixels, or is refused by its own name."""

import struct

import numpy as np
import pytest
import pyvips
from PIL import Image

from shared.images import ImageRefused, Limits, decode, identify
from tests.support.pictures import photograph, saved, tiff

SIDE, SMALL = 64, 16
PHOTO = photograph(SIDE, SIDE)


def distance(data: bytes, expected: Image.Image, size: int = SIDE) -> float:
    """Return how far the pixels of a file are from those of a picture, in the mean."""
    found, _ = decode(data, size=size)
    wanted, _ = decode(saved(expected, "PNG"), size=size)
    return float(np.abs(found.astype(int) - wanted.astype(int)).mean())


@pytest.mark.parametrize("resolutions", [1, 2, 3, 6])
@pytest.mark.parametrize("side", range(257, 266))
def test_a_jpeg_2000_is_decoded_at_whichever_scale_it_has(side: int, resolutions: int) -> None:
    picture = photograph(side, side + 4)
    data = saved(picture, "JPEG2000", num_resolutions=resolutions, irreversible=False)
    assert distance(data, picture, SMALL) < 3


def test_tiles_may_stand_in_the_tags_of_strips() -> None:
    image = photograph(48, 40).convert("L")
    padded = Image.new("L", (64, 64))
    padded.paste(image)
    tiles = [padded.crop((x, y, x + 32, y + 32)).tobytes() for y in (0, 32) for x in (0, 32)]
    data = bytearray(tiff(b"".join(tiles), 48, 40, bits=(8,), photometric=1, tag322=32, tag323=32))
    for number, values in ((273, [8 + 1024 * place for place in range(4)]), (279, [1024] * 4)):
        at = data.index(struct.pack("<HH", number, 4), 8 + 4096)
        data[at + 4 : at + 12] = struct.pack("<II", 4, len(data))
        data += struct.pack("<4I", *values)
    assert distance(bytes(data), image, SMALL) < 1


def test_a_palette_of_16_bits_is_named() -> None:
    colours = bytes(3 * 2 * 65_536)
    at = 8 + 2 * SIDE * SIDE
    data = bytearray(
        tiff(bytes(2 * SIDE * SIDE) + colours, SIDE, SIDE, bits=(16,), photometric=3, tag320=at, tag279=2 * SIDE * SIDE)
    )
    entry = data.index(struct.pack("<HH", 320, 4), at)
    data[entry + 2 : entry + 8] = struct.pack("<HI", 3, 3 * 65_536)
    with pytest.raises(ImageRefused, match="palette of 16 bits") as caught:
        identify(bytes(data))
    assert caught.value.reason == "format"


def test_a_tiff_may_be_compressed_as_webp() -> None:
    image = pyvips.Image.new_from_array(np.asarray(PHOTO)).copy(interpretation="srgb")
    data = bytes(image.tiffsave_buffer(compression="webp", lossless=True))
    assert distance(data, PHOTO) < 1


def test_a_jfif_segment_that_is_cut_short_is_passed_over() -> None:
    data = saved(PHOTO, "JPEG", quality=95)
    assert data[2:4] == b"\xff\xe0"
    end = 4 + int.from_bytes(data[4:6], "big")
    short = data[:2] + b"\xff\xe0\0\x07JFIF\0" + data[end:]
    assert np.array_equal(decode(short, size=SIDE)[0], decode(data, size=SIDE)[0])


def test_bytes_between_the_segments_of_a_jpeg_are_passed_over() -> None:
    data = saved(PHOTO, "JPEG", quality=95)
    stray = data[:2] + bytes(range(255)) + data[2:]
    assert np.array_equal(decode(stray, size=SIDE)[0], decode(data, size=SIDE)[0])
    with pytest.raises(ImageRefused) as caught:
        identify(b"\xff\xd8 and nothing that is a JPEG")
    assert caught.value.reason == "truncated"


def test_zeros_of_a_transparent_webp_are_no_damage() -> None:
    image = photograph(400, 400).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    data = bytearray(saved(image, "WEBP", quality=80))
    at = data.index(b"ALPH")
    plain = b"\0" + bytes(400 * 400)  # alpha that is not compressed
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    data[at + 4 : at + 8 + size + size % 2] = struct.pack("<I", len(plain)) + plain + b"\0"
    data[4:8] = struct.pack("<I", len(data) - 8)
    assert identify(bytes(data)).flags == ()
    decode(bytes(data), size=SIDE)


def test_a_single_strip_that_is_stored_as_it_is_takes_no_more_memory_than_many() -> None:
    image = photograph(6000, 3000).convert("L")
    data = tiff(image.tobytes(), 6000, 3000, bits=(8,), photometric=1)
    limits = Limits(max_memory=len(data) + 8 * 2**20)
    found, _ = decode(data, size=SIDE, limits=limits)
    assert np.abs(found.astype(int) - decode(saved(image, "PNG"), size=SIDE)[0]).mean() < 1
    with pytest.raises(ImageRefused, match="memory"):  # what is coded is decoded whole
        decode(
            saved(image, "TIFF", compression="tiff_lzw", tiffinfo={278: 3000}),
            size=SIDE,
            limits=Limits(max_memory=len(data) // 2),
        )
