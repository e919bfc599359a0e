"""Images of every format and pixel type come out as the right pixels: checked on pictures made on the spot."""

import io
import struct
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from shared.images import ImageInfo, decode, identify, thumbnail
from tests.support.pictures import SIDE, photograph, png_file, quadrants, saved, tiff

FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "tiff": "TIFF", "bmp": "BMP"}
SIZE = SIDE  # a square picture of this side is neither enlarged nor reduced


def corners(pixels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """The colours a quarter in from each corner, rounded to pure ones: the upper two, then the lower two."""
    near, far = len(pixels) // 4, -len(pixels) // 4
    found = [pixels[y, x].astype(int) for y in (near, far) for x in (near, far)]
    return [tuple(round(channel / 255) for channel in colour) for colour in found]


RED, GREEN, BLUE, YELLOW = (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)


def level(data: bytes) -> int:
    """The grey level of a picture that is evenly grey but for a corner, which may hold what sets its range."""
    pixels = decode(data, size=SIZE)[0][2:, 2:]
    assert int(np.ptp(pixels)) == 0
    return int(pixels[0, 0, 0])


def test_every_format_is_identified_and_decoded() -> None:
    for name, kind in FORMATS.items():
        data = saved(quadrants(120, 100), kind, **({"lossless": True} if name == "webp" else {}))
        info = ImageInfo(name, f"image/{name}", 120, 100)
        assert identify(data) == info
        pixels, decoded = decode(data, size=SIZE)
        assert decoded == info
        assert pixels.shape == (SIZE, SIZE, 3)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        assert corners(pixels) == [RED, GREEN, BLUE, YELLOW]


@pytest.mark.parametrize(
    ("width", "height"), [(320, 240), (213, 320), (256, 256), (300, 97), (40, 31), (1, 1), (700, 512)]
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_moderate_picture_is_exactly_converted_resized_and_cropped(width: int, height: int, kind: str) -> None:
    data = saved(photograph(width, height), kind)
    plain = Image.open(io.BytesIO(data)).convert("RGB")
    scale = 224 / min(width, height)
    plain = plain.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (plain.width - 224) // 2, (plain.height - 224) // 2
    expected = np.asarray(plain.crop((left, top, left + 224, top + 224)))
    assert np.array_equal(decode(data, size=224)[0], expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_large_picture_comes_close_to_the_plain_way(kind: str) -> None:
    large = photograph(2001, 1503)
    expected = large.resize((round(2001 * SIDE / 1503), SIDE), Image.Resampling.BICUBIC)
    left = (expected.width - SIZE) // 2
    expected = expected.crop((left, 0, left + SIZE, SIZE))
    options = {} if kind in {"TIFF", "PNG"} else {"quality": 95}
    found = decode(saved(large, kind, **options), size=SIZE)[0]
    assert np.abs(found.astype(int) - np.asarray(expected)).mean() < 2


@pytest.mark.parametrize(("width", "height"), [(5000, 40), (40, 5000), (24, 30_000)])
def test_of_a_long_strip_the_middle_is_taken(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), (255, 0, 0))
    side = min(width, height)
    image.paste((0, 0, 255), ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2))
    pixels, info = decode(saved(image, "PNG"), size=SIZE)
    assert (info.width, info.height) == (width, height)
    assert (pixels[8:-8, 8:-8] == (0, 0, 255)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("width", [100, 1200])
def test_orientation_is_undone(orientation: int, kind: str, width: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # what EXIF calls 6 is shown turned clockwise, so it is stored the other way
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = quadrants(width, width * 7 // 10)
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(stored, kind, exif=exif)
    pixels, info = decode(data, size=SIZE)
    assert corners(pixels) == [RED, GREEN, BLUE, YELLOW]
    assert (info.width, info.height) == upright.size
    assert identify(data) == info
    small = Image.open(io.BytesIO(thumbnail(data, box=80)))
    assert small.size == (80, 56)
    assert small.getexif().get(274, 1) == 1


def test_exif_at_the_end_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = saved(quadrants(100, 70), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack_from(">I", data, start)[0]
    trailer = data.index(b"IEND") - 4
    moved = data[:start] + data[end:trailer] + data[start:end] + data[trailer:]
    assert identify(moved) == identify(data)
    assert identify(moved).width == 70


@pytest.mark.parametrize(
    "block", [b"", b"II*", b"II*\0\xff\xff\xff\xff", b"XX*\0" + bytes(40), b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_exif_is_ignored(block: bytes) -> None:
    image = quadrants(100, 70)
    for kind in ("JPEG", "WEBP"):
        data = saved(image, kind, exif=b"Exif\0\0" + block)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            assert identify(data).width == 100
            assert corners(decode(data, size=SIZE)[0]) == [RED, GREEN, BLUE, YELLOW]
        assert seen == []


def test_an_orientation_out_of_range_is_ignored() -> None:
    exif = Image.Exif()
    exif[274] = 9
    assert identify(saved(quadrants(100, 70), "JPEG", exif=exif)).width == 100


def test_cmyk_looks_right() -> None:
    image = Image.new("CMYK", (SIDE, SIDE), (0, 0, 0, 255))
    image.paste((255, 0, 0, 0), (SIDE // 2, 0, SIDE, SIDE))
    for data in (saved(image, "JPEG", quality=95), saved(image, "TIFF"), saved(image, "TIFF", compression="tiff_lzw")):
        pixels, _ = decode(data, size=SIZE)
        assert pixels[SIZE // 2, 4].max() < 16  # black
        assert pixels[SIZE // 2, -4, 0] < 16  # cyan
        assert pixels[SIZE // 2, -4, 1:].min() > 239


def test_adobe_ycck_is_read() -> None:
    data = saved(quadrants().convert("CMYK"), "JPEG", quality=95, subsampling=0)
    # The same file with its channels taken as YCCK: the colours move, as the transform flag says they shall.
    marker = data.index(b"Adobe")
    ycck = data[: marker + 11] + b"\x02" + data[marker + 12 :]
    assert corners(decode(data, size=SIZE)[0]) == [RED, GREEN, BLUE, YELLOW]
    plain = np.asarray(Image.open(io.BytesIO(ycck)).convert("RGB"))
    assert np.array_equal(decode(ycck, size=SIZE)[0], plain)


def test_a_cmyk_profile_that_is_none_does_no_harm() -> None:
    image = Image.new("CMYK", (SIDE, SIDE), (255, 0, 0, 0))
    bare = decode(saved(image, "TIFF"), size=SIZE)[0]
    for profile in (
        b"CMYK",
        bytes(16) + b"CMYK" + bytes(400),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    ):
        for kind in ("TIFF", "JPEG"):
            found = decode(saved(image, kind, icc_profile=profile), size=SIZE)[0]
            assert np.abs(found.astype(int) - bare).max() < 3


def grey_ink_profile() -> bytes:
    """An ICC profile by which cyan prints a grey of L* 50, and other inks black (ICC.1:2001-04, lut8Type)."""
    identity = struct.pack(">9i", 65_536, 0, 0, 0, 65_536, 0, 0, 0, 65_536)
    clut = bytes([255, 128, 128]) + bytes([0, 128, 128]) * 15  # L* a* b* of no ink, and of the other 15 corners
    clut = clut[:24] + bytes([128, 128, 128]) + clut[27:]  # cyan alone
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + clut + ramp * 3
    head = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", head, 0, 144 + len(table), b"", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    struct.pack_into(">4s", head, 36, b"acsp")
    struct.pack_into(">3i", head, 68, 63_190, 65_536, 54_061)
    return bytes(head) + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_cmyk_profile_decides_the_colour(kind: str) -> None:
    image = Image.new("CMYK", (SIDE, SIDE), (255, 0, 0, 0))
    image.paste((0, 0, 0, 0), (0, 0, SIDE // 2, SIDE))
    pixels, _ = decode(saved(image, kind, icc_profile=grey_ink_profile()), size=SIZE)
    assert pixels[32, 4].min() > 245
    assert np.abs(pixels[32, -4].astype(int) - 119).max() < 6  # L* 50 in sRGB


def test_lab_is_read_as_colour() -> None:
    profile = ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(quadrants(), ImageCms.createProfile("sRGB"), profile, outputMode="LAB")
    assert lab is not None
    assert corners(decode(saved(lab, "TIFF"), size=SIZE)[0]) == [RED, GREEN, BLUE, YELLOW]


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257, 1), (32_896, 128), (65_535, 255)])
def test_16_bit_grey_is_scaled_to_8(value: int, expected: int) -> None:
    values = np.full((SIDE, SIDE), value, np.uint16)
    values[0, 0] = 65_535  # outside the crop: the samples use all of their 16 bits
    for kind in ("PNG", "TIFF"):
        assert level(saved(Image.fromarray(values), kind)) == expected


@pytest.mark.parametrize(("greatest", "expected"), [(700, 22), (4095, 128), (4096, 8), (16_383, 32)])
def test_what_would_be_black_by_16_bits_is_scaled_by_12(greatest: int, expected: int) -> None:
    values = np.full((SIDE, SIDE), greatest // 2 + 1, np.uint16)
    values[0, 0] = greatest
    for kind in ("PNG", "TIFF"):
        assert level(saved(Image.fromarray(values), kind)) == expected


def test_big_endian_16_bit_tiff_and_white_is_zero() -> None:
    values = np.full((SIDE, SIDE), 257 * 40, ">u2")
    values[0, 0] = 65_535
    assert level(tiff(values.tobytes(), SIDE, SIDE, bits=(16,), photometric=1, order=">")) == 40
    swapped = values.astype("<u2").tobytes()
    assert level(tiff(swapped, SIDE, SIDE, bits=(16,), photometric=1)) == 40
    assert level(tiff(swapped, SIDE, SIDE, bits=(16,), photometric=0)) == 255 - 40


def test_16_bit_rgb_keeps_its_colours() -> None:
    values = np.asarray(quadrants()).astype(np.uint16) * 257
    assert corners(decode(tiff(values.tobytes(), SIDE, SIDE, bits=(16,) * 3, photometric=2), size=SIZE)[0]) == [
        RED, GREEN, BLUE, YELLOW,
    ]  # fmt: skip
    png = png_file(SIDE, SIDE, depth=16, colour=2, rows=values.astype(">u2"))
    assert corners(decode(png, size=SIZE)[0]) == [RED, GREEN, BLUE, YELLOW]


@pytest.mark.parametrize("side", [SIDE, 700])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_32_bit_grey_is_stretched_over_its_range(dtype: str, side: int) -> None:
    ramp = np.linspace(-3000, 5000, side).astype(np.dtype(dtype))
    pixels = decode(saved(Image.fromarray(np.tile(ramp, (side, 1))), "TIFF"), size=SIZE)[0].astype(int)
    expected = np.linspace(0, 255, SIZE)
    assert np.abs(pixels[SIZE // 2, :, 0] - expected).max() < 4


def test_numbers_that_are_none_are_harmless() -> None:
    values = np.tile(np.linspace(0, 1, SIDE, dtype=np.float32), (SIDE, 1))
    values[10:40, 30:60], values[50, 30], values[60, 30] = np.nan, np.inf, -np.inf
    pixels = decode(saved(Image.fromarray(values), "TIFF"), size=SIZE)[0]
    assert pixels[10, 30, 0] == 0
    assert 100 < pixels[50, 32, 0] < 150
    for constant in (np.nan, 7.0):
        assert level(saved(Image.fromarray(np.full((SIDE, SIDE), constant, np.float32)), "TIFF")) == 128


@pytest.mark.parametrize("side", [SIDE, 900])
@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("LA", "PNG"), ("LA", "TIFF")]
)
def test_transparency_is_laid_over_white(mode: str, kind: str, side: int) -> None:
    image = Image.new("RGBA", (side, side), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (side // 2, 0, side, side))  # black that is not to be seen
    image.paste((0, 0, 0, 128), (0, side // 2, side // 2, side))
    data = saved(image.convert(mode), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    pixels, _ = decode(data, size=SIZE)
    assert pixels[8, 8].tolist() == [0, 0, 0]
    assert pixels[8, -8].tolist() == [255, 255, 255]
    assert abs(int(pixels[-8, 8, 0]) - 127) <= 1


def test_palettes_with_transparency() -> None:
    image = quadrants().quantize(8)
    index = image.getpixel((SIDE - 2, 2))  # green
    assert isinstance(index, int)
    for data in (
        saved(image, "PNG", transparency=index),
        saved(image, "PNG", transparency=bytes(0 if entry == index else 255 for entry in range(8))),
        saved(image, "GIF", transparency=index),
    ):
        assert corners(decode(data, size=SIZE)[0]) == [RED, (1, 1, 1), BLUE, YELLOW]


def test_a_transparent_colour_without_a_palette() -> None:
    assert corners(decode(saved(quadrants(), "PNG", transparency=(0, 255, 0)), size=SIZE)[0])[1] == (1, 1, 1)
    grey = Image.new("L", (SIDE, SIDE), 77)
    assert level(saved(grey, "PNG", transparency=77)) == 255
    assert level(saved(grey, "PNG", transparency=78)) == 77
    deep = np.full((SIDE, SIDE), 1000, np.uint16)
    deep[0, 0] = 40_000
    assert level(saved(Image.fromarray(deep), "PNG", transparency=1000)) == 255
    wide = png_file(
        SIDE, SIDE, depth=16, colour=2, rows=np.full((SIDE, SIDE, 3), 0x0505, ">u2"), transparent=b"\5\6" * 3
    )
    assert level(wide) == 5


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit_and_palette_pictures(kind: str) -> None:
    bits = Image.new("1", (SIDE, SIDE), 0)
    bits.paste(1, (SIDE // 2, 0, SIDE, SIDE))
    assert corners(decode(saved(bits, kind), size=SIZE)[0]) == [(0, 0, 0), (1, 1, 1)] * 2
    large = quadrants(1500).quantize(4)
    assert corners(decode(saved(large, kind), size=SIZE)[0]) == [RED, GREEN, BLUE, YELLOW]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"])
@pytest.mark.parametrize("options", [{}, {"big_tiff": True}])
def test_tiff_compressions(compression: str, options: dict[str, bool]) -> None:
    data = saved(quadrants(), "TIFF", compression=compression, **options)
    assert corners(decode(data, size=SIZE)[0]) == [RED, GREEN, BLUE, YELLOW]


def test_fax_tiff() -> None:
    bits = Image.new("1", (SIDE, SIDE), 1)
    bits.paste(0, (0, 0, SIDE // 2, SIDE))
    assert corners(decode(saved(bits, "TIFF", compression="group4"), size=SIZE)[0]) == [(0, 0, 0), (1, 1, 1)] * 2


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind: str) -> None:
    frames = [quadrants(), *(Image.new("RGB", (SIDE, SIDE), (0, shade, 0)) for shade in (10, 120, 240))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert corners(decode(data, size=SIZE)[0]) == [RED, GREEN, BLUE, YELLOW]


def test_a_multi_picture_jpeg_is_its_first_picture() -> None:
    data = saved(quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE))], quality=95)
    assert b"MPF\0" in data
    pixels, info = decode(data, size=SIZE)
    assert info.format == "jpeg"
    assert corners(pixels) == [RED, GREEN, BLUE, YELLOW]


def test_progressive_and_grey_jpegs() -> None:
    data = saved(quadrants(1300, 1100), "JPEG", progressive=True, quality=95)
    assert corners(decode(data, size=SIZE)[0]) == [RED, GREEN, BLUE, YELLOW]
    grey = saved(Image.new("L", (1300, 1100), 90), "JPEG", quality=95)
    assert level(grey) == 90


@pytest.mark.parametrize("kind", list(FORMATS.values()))
def test_what_follows_a_complete_picture_is_ignored(kind: str) -> None:
    data = saved(quadrants(), kind)
    assert np.array_equal(decode(data + b"\xff\xda garbage \0" * 500, size=SIZE)[0], decode(data, size=SIZE)[0])


@pytest.mark.parametrize("kind", list(FORMATS.values()))
@pytest.mark.parametrize(("width", "height", "box", "expected"), [
    (640, 480, 160, (160, 120)), (480, 640, 160, (120, 160)), (100, 50, 160, (100, 50)), (1500, 3, 160, (160, 1)),
    (3000, 2000, 99, (99, 66)),
])  # fmt: skip
def test_thumbnails_fit_their_box(kind: str, width: int, height: int, box: int, expected: tuple[int, int]) -> None:
    small = thumbnail(saved(quadrants(width, height), kind), box=box)
    image = Image.open(io.BytesIO(small))
    assert image.format == "JPEG"
    assert image.size == expected
    assert identify(small).width == expected[0]


def test_thumbnails_carry_no_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "at home"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(quadrants(400), "JPEG", exif=exif, icc_profile=profile, comment=b"secret")
    assert b"at home" in data
    small = Image.open(io.BytesIO(thumbnail(data, box=100)))
    assert set(small.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
