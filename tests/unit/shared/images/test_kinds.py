"""Kinds of pictures that owners have: each shows its right pixels, is flagged, or is refused by its own name."""

import io
import struct
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from shared.images import ImageRefused, Limits, decode, identify
from tests.support.heic import HEIC
from tests.support.pictures import SIDE, photograph, png_file, quadrants, saved, tiff

SIZE = SIDE
Pixels = npt.NDArray[np.int_]


def pixels(data: bytes, limits: Limits | None = None) -> Pixels:
    return decode(data, size=SIZE, limits=limits or Limits())[0].astype(int)


def refusal(data: bytes) -> ImageRefused:
    with pytest.raises(ImageRefused) as caught:
        decode(data, size=SIZE)
    return caught.value


def near(found: Pixels, expected: Pixels, within: float = 2.0) -> bool:
    return bool(np.abs(found - expected).mean() < within)


PHOTO = photograph(SIDE, SIDE)
PHOTO_PIXELS = np.asarray(PHOTO).astype(int)


def directory(tags: dict[int, tuple[int, list[int]]], at: int) -> bytes:
    """A directory of a little-endian TIFF at an offset, and the values that do not fit into its entries."""
    entries, behind = struct.pack("<H", len(tags)), b""
    for number, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }", *values)
        place = at + 2 + 12 * len(tags) + 4 + len(behind)
        entries += struct.pack("<HHI", number, kind, len(values))
        entries += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", place)
        behind += packed if len(packed) > 4 else b""
    return entries + bytes(4) + behind


def raw_file(preview: bytes, *, sensor: tuple[int, int], orientation: int = 1) -> bytes:
    """A DNG: a JPEG preview in its first directory, and a sensor's picture of this size below it."""
    samples = bytes(sensor[0] * sensor[1])
    at = 8 + len(preview)
    below = at + len(samples)
    picture = directory(
        {256: (4, [sensor[0]]), 257: (4, [sensor[1]]), 258: (3, [8]), 259: (3, [1]), 262: (3, [32_803]),
         273: (4, [at]), 277: (3, [1]), 278: (4, [sensor[1]]), 279: (4, [len(samples)])}, below,
    )  # fmt: skip
    first = below + len(picture)
    main = directory(
        {254: (4, [1]), 256: (4, [40]), 257: (4, [30]), 258: (3, [8, 8, 8]), 259: (3, [7]), 262: (3, [6]),
         273: (4, [8]), 274: (3, [orientation]), 277: (3, [3]), 278: (4, [30]), 279: (4, [len(preview)]),
         330: (4, [below]), 50706: (1, [1, 4, 0, 0])}, first,
    )  # fmt: skip
    return struct.pack("<2sHI", b"II", 42, first) + preview + samples + picture + main


def test_a_raw_file_is_taken_from_its_full_size_preview_or_refused_as_raw() -> None:
    preview = saved(quadrants(400, 300), "JPEG", quality=95)
    found, info = decode(raw_file(preview, sensor=(404, 302), orientation=6), size=SIZE)
    assert (info.format, info.width, info.height) == ("raw", 300, 400)
    assert found[5, 5].argmax() == 2  # turned clockwise, blue is at the upper left
    for sensor in ((4000, 30), (900, 700)):
        refused = refusal(raw_file(preview, sensor=sensor))
        assert refused.reason == "format"
        assert "RAW" in str(refused)


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colours_in_planes(planar: int, order: Literal["<", ">"]) -> None:
    values = (PHOTO_PIXELS * 257).astype(np.dtype(np.uint16).newbyteorder(order))
    if planar == 2:
        strips = np.moveaxis(values, -1, 0).tobytes()
        size = len(strips) // 3
        data = bytearray(
            tiff(strips, SIDE, SIDE, bits=(16,) * 3, photometric=2, order=order, tag284=2, tag273=0, tag279=0)
        )
        places = struct.pack(order + "6I", *(8 + size * plane for plane in range(3)), size, size, size)
        for number, at in ((273, len(data)), (279, len(data) + 12)):
            entry = data.index(struct.pack(order + "HH", number, 4))
            data[entry + 4 : entry + 12] = struct.pack(order + "II", 3, at)
        data += places
    else:
        data = bytearray(tiff(values.tobytes(), SIDE, SIDE, bits=(16,) * 3, photometric=2, order=order))
    assert near(pixels(bytes(data)), PHOTO_PIXELS, 1)


@pytest.mark.parametrize("colours", [1, 3])
def test_32_bit_samples_that_use_their_range_are_scaled_by_it(colours: int) -> None:
    expected = PHOTO_PIXELS if colours == 3 else np.asarray(PHOTO.convert("L")).astype(int)
    values = (expected.astype(np.uint64) * 0x1010101).astype("<u4")
    data = tiff(values.tobytes(), SIDE, SIDE, bits=(32,) * colours, photometric=2 if colours == 3 else 1)
    assert near(pixels(data), expected if colours == 3 else expected[..., None], 0.6)


def test_what_no_decoder_reads_is_named_and_not_called_damaged() -> None:
    doubles = tiff(np.zeros((SIDE, SIDE), np.complex64).tobytes(), SIDE, SIDE, bits=(64,), photometric=1, tag339=6)
    frame = (jpeg := saved(PHOTO, "JPEG")).index(b"\xff\xc0")
    twelve_bits = jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :]
    no_height = jpeg[: frame + 5] + bytes(2) + jpeg[frame + 7 :]
    icc_lab = tiff(bytes(SIDE * SIDE * 3), SIDE, SIDE, bits=(8,) * 3, photometric=9)
    planes = tiff(bytes(SIDE * SIDE * 3), SIDE, SIDE, bits=(8,) * 3, photometric=6, tag284=2)
    lab_and_planes = ((icc_lab, "Lab"), (planes, "chrominance"))
    expected = ((doubles, "out of range"), (twelve_bits, "12 bits"), (no_height, "DNL"), *lab_and_planes)
    for data, word in expected:
        refused = refusal(data)
        assert (refused.reason, word in str(refused)) == ("format", True), str(refused)


def old_jpeg_tiff(jpeg: bytes) -> bytes:
    """A TIFF with the parts of a JPEG as TIFF 6.0 has them: tables of their own, and a tile of bare codes."""
    quantisation, huffman, at = dict[int, bytes](), dict[int, bytes](), 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        body = jpeg[at + 4 : end]
        if jpeg[at + 1] == 0xDB:
            quantisation[body[0]] = body[1:65]
        elif jpeg[at + 1] == 0xC4:
            huffman[body[0]] = body[1:]
        at = end
    codes = jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") : -2]
    tables = [quantisation[0], quantisation[1], huffman[0], huffman[1], huffman[16], huffman[17]]
    places = [8 + len(codes) + sum(map(len, tables[:number])) for number in range(6)]
    strip = codes + b"".join(tables)
    first = 8 + len(strip)
    main = directory(
        {256: (4, [SIDE]), 257: (4, [SIDE]), 258: (3, [8, 8, 8]), 259: (3, [6]), 262: (3, [6]), 277: (3, [3]),
         322: (4, [SIDE]), 323: (4, [SIDE]), 324: (4, [8]), 325: (4, [len(codes)]), 512: (3, [1]), 530: (3, [2, 2]),
         519: (4, [places[0], places[1], places[1]]), 520: (4, [places[2], places[3], places[3]]),
         521: (4, [places[4], places[5], places[5]])}, first,
    )  # fmt: skip
    return struct.pack("<2sHI", b"II", 42, first) + strip + main


def test_the_old_kind_of_jpeg_in_a_tiff_is_read() -> None:
    """Libvips shows a white picture."""
    picture = quadrants(SIDE, SIDE)
    found = pixels(old_jpeg_tiff(saved(picture, "JPEG", quality=100, subsampling=2)))
    assert near(found, np.asarray(picture).astype(int))


def test_packed_12_bit_grey_and_16_bit_lab_are_read() -> None:
    packed = np.tile(np.array([0x80, 0x08, 0x00], np.uint8), SIDE * SIDE // 2)  # 0x800, twice
    packed[:3] = [0xFF, 0xFF, 0xFF]
    assert abs(pixels(tiff(packed.tobytes(), SIDE, SIDE, bits=(12,), photometric=1))[40, 40, 0] - 128) <= 1
    lab = np.zeros((SIDE, SIDE, 3), np.uint16)
    lab[..., 0] = 32_768  # L* 50
    assert near(pixels(tiff(lab.tobytes(), SIDE, SIDE, bits=(16,) * 3, photometric=8)), PHOTO_PIXELS * 0 + 119)


@pytest.mark.parametrize(("dtype", "code"), [("float32", 3), ("int16", 2), ("uint32", 1)])
def test_numbers_are_stretched_by_percentiles_without_what_is_no_measurement(dtype: str, code: int) -> None:
    values = np.tile(np.linspace(1000, 2000, SIDE), (SIDE, 1)).astype(dtype)
    values[0, 0], values[63, 63] = (30_000, 0) if dtype != "float32" else (3e38, -3e38)
    found = pixels(tiff(values.tobytes(), SIDE, SIDE, bits=(values.itemsize * 8,), photometric=1, tag339=code))
    assert np.abs(found[32, :, 0] - np.linspace(0, 255, SIDE)).max() < 6


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_colours_from_0_to_1_are_taken_as_they_are(dtype: str) -> None:
    soft = np.clip(PHOTO_PIXELS, 60, 200)
    values = (soft / 255).astype(dtype)
    values[0, 0] = 30
    data = tiff(values.tobytes(), SIDE, SIDE, bits=(values.itemsize * 8,) * 3, photometric=2, tag339=3)
    assert near(pixels(data)[1:], soft[1:], 1)


def test_a_named_value_for_no_data_is_left_out() -> None:
    values = np.tile(np.linspace(0, 1, SIDE), (SIDE, 1)).astype(np.float32)
    values[:, :32] = -9999
    data = tiff(values.tobytes(), SIDE, SIDE, bits=(32,), photometric=1, tag339=3, tag42113=0)
    entry = data.index(struct.pack("<HH", 42_113, 4))
    text = b"-9999\0"
    data = data[:entry] + struct.pack("<HHII", 42_113, 2, len(text), len(data)) + data[entry + 12 :] + text
    found = pixels(data)
    assert found[32, 5, 0] == 0
    assert found[32, 36, 0] < 40
    assert found[32, 60, 0] > 220


def holed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(2048) + data[middle + 2048 :]


def test_a_hole_in_a_jpeg_is_flagged_and_a_single_shade_is_not() -> None:
    whole = saved(photograph(400, 300), "JPEG", quality=88)
    assert decode(whole, size=SIZE)[1].flags == ()
    assert decode(holed(whole), size=SIZE)[1].flags == ("damaged",)
    assert identify(holed(whole)).flags == ("damaged",)
    plain = saved(Image.new("RGB", (3000, 3000), (255, 255, 255)), "JPEG", optimize=True)
    assert bytes(600) in plain
    assert identify(plain).flags == ()


def test_what_lies_behind_a_sound_jpeg_is_no_hole_in_it() -> None:
    """A camera appends a preview behind padding, a telephone a video."""
    whole = saved(photograph(400, 300), "JPEG", quality=88)
    for appended in (
        bytes(512) + b"\xff\xd9",
        bytes(600) + saved(photograph(80, 60), "JPEG"),
        b"\xff\xd9" + bytes(512),
    ):
        assert identify(whole + appended + b"\xff\xd9").flags == ()
        assert identify(holed(whole) + appended + b"\xff\xd9").flags == ("damaged",)


def test_a_hole_in_a_progressive_jpeg_is_flagged_where_no_encoder_writes_it() -> None:
    whole = saved(photograph(800, 600), "JPEG", quality=95, progressive=True)
    assert identify(whole).flags == ()
    second = whole.index(b"\xff\xda", whole.index(b"\xff\xda") + 2)  # the first scan of shades
    third = whole.index(b"\xff\xda", second + 2)
    middle = (second + third) // 2
    assert third - second > 4096
    holed_there = whole[: middle - 1024] + bytes(2048) + whole[middle + 1024 :]
    assert identify(holed_there).flags == ("damaged",)
    assert decode(holed_there, size=SIZE)[1].flags == ("damaged",)
    plain = saved(Image.new("RGB", (6000, 6000), (200, 10, 10)), "JPEG", progressive=True)
    assert bytes(600) in plain
    assert identify(plain).flags == ()


def test_holes_that_a_format_proves_are_refused() -> None:
    photo = photograph(200, 150)
    assert refusal(holed(saved(photo, "PNG"))).reason == "corrupt"
    for data in (saved(photo, "WEBP", quality=95), saved(photo, "TIFF", compression="packbits")):
        assert identify(data).flags == ()
        assert identify(holed(data)).flags == ("damaged",)


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_a_copy_that_broke_off_is_flagged_and_a_dark_part_is_not(kind: str) -> None:
    data = saved(photograph(160, 120), kind)
    cut = len(data) // 2 + 70
    assert identify(data).flags == ()
    half = data[:cut] + bytes(len(data) - cut)
    if kind == "TIFF":  # the directory may stand before the picture or behind it
        info = Image.open(io.BytesIO(data))
        at, size = info.tag_v2[273][0], sum(info.tag_v2[279])  # type: ignore[attr-defined]
        half = data[: at + size // 2 + 70] + bytes(size - size // 2 - 70) + data[at + size :]
    assert identify(half).flags == ("damaged",)
    dark = photograph(160, 120)
    dark.paste((0, 0, 0), (0, 0, 160, 60) if kind == "BMP" else (0, 60, 160, 120))
    assert identify(saved(dark, kind)).flags == ()
    alone = Image.new("RGB", (160, 120))
    alone.paste(photograph(60, 60), (50, 20))
    assert identify(saved(alone, kind)).flags == ()


def test_a_jpeg_that_lacks_its_last_two_bytes_is_taken() -> None:
    data = saved(PHOTO, "JPEG", quality=95)
    for lacking in (1, 2):
        found, info = decode(data[:-lacking], size=SIZE)
        assert info.flags == ()
        assert near(found.astype(int), pixels(data), 0.5)
    assert refusal(data[:-3]).reason == "truncated"


@pytest.mark.parametrize(("kind", "options", "within"), [
    ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 3), ("JPEG2000", {}, 0.1),
    ("JPEG2000", {"irreversible": True}, 2),
])  # fmt: skip
def test_avif_and_jpeg_2000(kind: str, options: dict[str, Any], within: float) -> None:
    data = saved(PHOTO, kind, **options)
    assert near(pixels(data), PHOTO_PIXELS, within)
    assert refusal(data[: len(data) // 2]).reason in {"truncated", "corrupt"}
    large = quadrants(1600)
    assert near(pixels(saved(large, kind)), np.asarray(quadrants()).astype(int), 8)


def test_heic() -> None:
    info = identify(HEIC)
    assert (info.format, info.media_type, info.width, info.height) == ("heic", "image/heic", 64, 48)
    expected = np.asarray(quadrants(85, SIZE).crop((10, 0, 10 + SIZE, SIZE))).astype(int)
    assert near(pixels(HEIC), expected, 12)
    assert refusal(HEIC[: len(HEIC) // 2]).reason in {"truncated", "corrupt"}


@pytest.mark.parametrize("side", [SIDE, 900])
@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("PNG", "P"), ("PNG", "LA"), ("TIFF", "RGBA")])
def test_a_white_drawing_on_transparency_is_seen(kind: str, mode: str, side: int) -> None:
    image = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (side // 4, side // 4, side // 2, side // 2))
    if mode == "P":
        palette = Image.new("P", (side, side), 0)
        palette.putpalette([255, 255, 255, 255, 255, 255])
        palette.paste(1, (side // 4, side // 4, side // 2, side // 2))
        data = saved(palette, kind, transparency=bytes([0, 255]))
    else:
        data = saved(image.convert(mode), kind)
    found = pixels(data)
    assert found[SIZE * 3 // 8, SIZE * 3 // 8].min() > 240
    assert found[-4, -4].max() < 16


def test_a_white_sheet_without_a_drawing_stays_white() -> None:
    assert pixels(saved(Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 0)), "PNG")).min() == 255
    assert pixels(saved(Image.new("RGB", (SIDE, SIDE), (255, 255, 255)), "PNG")).min() == 255


def test_16_bit_transparency() -> None:
    rows = np.zeros((SIDE, SIDE, 4), ">u2")
    rows[:, : SIDE // 2, 3] = 65_535
    found = pixels(png_file(SIDE, SIDE, depth=16, colour=6, rows=rows))
    assert found[32, 4].max() == 0
    assert found[32, 60].min() == 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "AVIF"])
def test_what_is_large_is_the_same_picture(kind: str) -> None:
    """Beyond 32 MiB of pixels a PNG is decoded row by row; the other kinds need less of it, or never are by Pillow."""
    image = quadrants(3400, 2600) if kind == "PNG" else quadrants(900, 700)
    expected = np.asarray(quadrants(83, SIZE).crop((9, 0, 9 + SIZE, SIZE))).astype(int)
    assert near(pixels(saved(image, kind, **({"compress_level": 1} if kind == "PNG" else {}))), expected, 8)


def test_a_file_that_streams_is_taken_where_memory_is_short() -> None:
    data = saved(quadrants(3400, 2600), "PNG", compress_level=1)
    limits = Limits(max_memory=len(data) + 4_000_000)
    assert pixels(data, limits).shape == (SIZE, SIZE, 3)
    with pytest.raises(ImageRefused, match="ARTSEEK_DECODE_MEMORY"):
        pixels(saved(quadrants(3400, 2600), "JPEG", progressive=True), limits)


def test_of_a_picture_with_a_gain_map_the_picture_is_taken() -> None:
    """As phones write it: the map that makes it brighter is a second JPEG behind it."""
    photo, file = photograph(160, 120), io.BytesIO()
    photo.save(file, "MPO", save_all=True, append_images=[Image.new("L", (40, 30), 255)], quality=90)
    found, info = decode(file.getvalue(), size=SIDE)
    assert (info.format, info.width, info.height, info.pages, info.flags) == ("jpeg", 160, 120, 1, ())
    assert np.array_equal(found, decode(saved(photo, "JPEG", quality=90), size=SIDE)[0])
