"""Colours by their profiles, and what is transparent in them."""

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from shared.images import decode
from tests.support.pictures import SIDE, photograph, quadrants, saved, tiff

Pixels = npt.NDArray[np.int_]


def pixels(data: bytes) -> Pixels:
    return decode(data, size=SIDE)[0].astype(int)


def near(found: Pixels, expected: npt.NDArray[Any], within: float = 2.0) -> bool:
    return bool(np.abs(found - expected).mean() < within)


PHOTO = photograph(SIDE, SIDE)
PHOTO_PIXELS = np.asarray(PHOTO).astype(int)


def fixed(*values: float) -> bytes:
    """Numbers as a profile has them."""
    return struct.pack(f">{len(values)}i", *(round(value * 65_536) for value in values))


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of a display in the version of ICC.1:2001-04."""
    at, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    head = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", head, 0, at + len(body), b"", 0x02400000, b"mntr", space, b"XYZ ")
    struct.pack_into(">4s", head, 36, b"acsp")
    struct.pack_into(">3i", head, 68, 63_190, 65_536, 54_061)
    return bytes(head) + table + body


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)


WHITE = b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249)


def matrix_profile(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], gamma: float) -> bytes:
    """An RGB profile of three primaries (XYZ for D50) and a gamma."""
    places = {
        name: b"XYZ " + bytes(4) + fixed(*place)
        for name, place in zip((b"rXYZ", b"gXYZ", b"bXYZ"), (red, green, blue), strict=True)
    }
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma))
    return profile(b"RGB ", {**places, b"wtpt": WHITE, **curves})


PROPHOTO = matrix_profile((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249), 1.8)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 97, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})],
)
def test_wide_colours_are_brought_to_srgb(kind: str, options: dict[str, Any]) -> None:
    soft = Image.blend(PHOTO, Image.new("RGB", PHOTO.size, (128, 128, 128)), 0.5)
    source = ImageCms.ImageCmsProfile(io.BytesIO(PROPHOTO))
    wide = ImageCms.profileToProfile(soft, ImageCms.createProfile("sRGB"), source)
    assert wide is not None
    assert not near(np.asarray(wide).astype(int), np.asarray(soft).astype(int), 8)
    data = saved(wide, kind, icc_profile=PROPHOTO, **options)
    assert near(pixels(data), np.asarray(soft).astype(int), 4 if kind == "JPEG" else 2)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(pixels(saved(soft, kind, icc_profile=srgb, **options)), pixels(saved(soft, kind, **options)))


@pytest.mark.parametrize("side", [SIDE, 900])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_partly_transparent_is_mixed_in_srgb(kind: str, side: int) -> None:
    """Half of black over white is light grey by ProPhoto's gamma, and darker by that of sRGB."""
    soft = Image.blend(quadrants(side), Image.new("RGB", (side, side), (128, 128, 128)), 0.5)
    source = ImageCms.ImageCmsProfile(io.BytesIO(PROPHOTO))
    wide = ImageCms.profileToProfile(soft, ImageCms.createProfile("sRGB"), source)
    assert wide is not None
    wide.putalpha(100)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    found = pixels(saved(wide, kind, icc_profile=PROPHOTO, **options))
    expected = np.asarray(soft.resize((SIDE, SIDE))) * (100 / 255) + 255 * (155 / 255)
    assert near(found, expected)
    assert np.abs(found[8, 8] - expected[8, 8]).max() <= 2
    assert np.abs(found[-8, -8] - expected[-8, -8]).max() <= 2


def test_a_white_drawing_on_transparency_with_a_profile_is_seen() -> None:
    image = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (16, 16, 32, 32))
    found = pixels(saved(image, "PNG", icc_profile=PROPHOTO))
    assert found[24, 24].min() > 240
    assert found[-4, -4].max() < 16


def test_what_is_transparent_of_inks_is_white() -> None:
    inks = np.zeros((SIDE, SIDE, 5), np.uint8)
    inks[..., :2], inks[..., 4] = 200, 255
    inks[:, : SIDE // 2, 4] = 0  # transparent, though there is ink
    found = pixels(tiff(inks.tobytes(), SIDE, SIDE, bits=(8,) * 5, photometric=5, tag338=2))
    assert found[32, 5].min() == 255
    plain = pixels(tiff(inks[..., :4].tobytes(), SIDE, SIDE, bits=(8,) * 4, photometric=5))
    assert np.abs(found[32, 60] - plain[32, 60]).max() <= 1


def test_a_profile_of_greys_counts_for_greys_alone() -> None:
    greys = profile(b"GRAY", {b"wtpt": WHITE, b"kTRC": curve(1.0)})
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        assert np.array_equal(pixels(saved(PHOTO, kind, icc_profile=greys, **options)), PHOTO_PIXELS)
    grey = Image.new("L", (SIDE, SIDE), 64)
    assert abs(pixels(saved(grey, "PNG", icc_profile=greys))[32, 32, 0] - 137) <= 1


def test_a_profile_whose_pieces_are_not_all_there_is_passed_over() -> None:
    data = saved(PHOTO, "JPEG", quality=95, icc_profile=PROPHOTO)
    whole, plain = b"ICC_PROFILE\0\x01\x01", pixels(saved(PHOTO, "JPEG", quality=95))
    assert not near(pixels(data), plain)
    for numbers in (b"\0\x01", b"\x01\x02", b"\x02\x02", b"\x02\x01"):
        assert np.array_equal(pixels(data.replace(whole, whole[:-2] + numbers)), plain)


def test_16_bit_wide_colours() -> None:
    soft = Image.blend(PHOTO, Image.new("RGB", PHOTO.size, (128, 128, 128)), 0.5)
    wide = ImageCms.profileToProfile(
        soft, ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(PROPHOTO))
    )
    values = np.asarray(wide).astype(np.uint16) * 257
    data = tiff(values.tobytes(), SIDE, SIDE, bits=(16,) * 3, photometric=2, tag34675=0)
    entry = data.index(struct.pack("<HH", 34_675, 4))
    data = data[:entry] + struct.pack("<HHII", 34_675, 7, len(PROPHOTO), len(data)) + data[entry + 12 :] + PROPHOTO
    assert near(pixels(data), np.asarray(soft).astype(int))
