"""What is no image, or a damaged or hostile one, is refused with its reason, cheaply, and never by another error."""

import io
import pickle
import random
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.images import REASONS, ImageRefused, Limits, decode, identify, thumbnail
from tests.support.bombs import chunk, png, tiff
from tests.support.paths import ROOT
from tests.support.pictures import saved

MIB = 1 << 20
KINDS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]


def photograph(width: int = 90, height: int = 70) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


def refusal(data: bytes, limits: Limits | None = None) -> str:
    """The reason for which decoding and thumbnailing refuse the data."""
    limits = limits or Limits()
    with pytest.raises(ImageRefused) as first:
        decode(data, size=32, limits=limits)
    with pytest.raises(ImageRefused) as second:
        thumbnail(data, box=32, limits=limits)
    assert first.value.reason == second.value.reason
    assert first.value.reason in REASONS
    assert len(str(first.value)) > 20
    return first.value.reason


def refused_at_once(data: bytes, limits: Limits | None = None) -> str:
    """The reason for which the header alone is refused."""
    with pytest.raises(ImageRefused) as caught:
        identify(data, limits or Limits())
    assert refusal(data, limits) == caught.value.reason
    return caught.value.reason


GREY_TIFF = {
    256: (3, 1, 10), 257: (3, 1, 10), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
    273: (4, 1, 8), 277: (3, 1, 1), 278: (3, 1, 10), 279: (4, 1, 100),
}  # fmt: skip


def bmp(width: int, height: int, bits: int, compression: int, body: bytes) -> bytes:
    head = struct.pack("<2sIHHI", b"BM", 54 + len(body), 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0) + body


@pytest.mark.parametrize(("data", "reason", "word"), [
    (b"", "empty", "empty"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "format", "PostScript"),
    (b"8BPS\0\1" + bytes(40), "format", "Photoshop"),
    (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "format", "SVG"),
    (b"\xef\xbb\xbf  <svg/>", "format", "SVG"),
    (b"\0\0\0\x20ftypheic" + bytes(40), "corrupt", "HEIC"),
    (b"\0\0\0\x20ftypavif" + bytes(40), "corrupt", "AVIF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "corrupt", "JP2"),
    (b"\0\0\0\x18ftypmif1" + bytes(40), "format", "HEIF"),
    (b"\0\0\0\x18ftypcrx " + bytes(40), "format", "CR3"),
    (b"FUJIFILMCCD-RAW " + bytes(40), "format", "RAW"),
    (b"\xff\x0a" + bytes(40), "format", "JPEG XL"),
    (b"\0\0\1\0\1\0" + bytes(40), "format", "icon"),
    (b"\0\0\2\0\1\0" + bytes(40), "format", "cursor"),
    (b"\0\0\2" + bytes(9) + b"\x10\0\x10\0\x18\0" + bytes(40), "format", "Targa"),
    (b"\0\1\1\0\0\0\1\x18" + bytes(4) + b"\x10\0\x10\0\x08\0" + bytes(40), "format", "Targa"),
    (b"\x0a\5\1\x08" + bytes(124), "format", "PCX"),
    (b"P6\n3 3\n255\n" + bytes(27), "format", "PPM"),
    (b"FORM\0\0\1\0ILBMBMHD" + bytes(40), "format", "IFF"),
    (bytes(128) + b"DICM" + bytes(40), "format", "DICOM"),
    (bytes(2048) + b"PCD_IPI" + bytes(40), "format", "Photo CD"),
    (bytes(512) + b"\1\0" + bytes(8) + b"\0\x11\2\xff\x0c\0" + bytes(40), "format", "PICT"),
    (b"\0\0\0\x64\0\0\0\7\0\0\0\2" + bytes(100), "format", "XWD"),
    (b"\x0c\0\1\0\x12\xaf\1\0\x40\1\xc8\0\x08\0" + bytes(100), "format", "FLI"),
    (b"\1\0\0\0\x6c\0\0\0" + bytes(32) + b" EMF" + bytes(40), "format", "metafile"),
    (struct.pack("<IiiHH", 40, 4, 4, 1, 24) + bytes(80), "format", "DIB"),
    (b"BM" + bytes(12) + struct.pack("<Iii", 16, 4, 4) + bytes(40), "format", "BMP"),
    (b"#define art_width 8\n#define art_height 8\n", "format", "XBM"),
    (b"\x59\xa6\x6a\x95" + bytes(40), "format", "Sun"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "not-an-image", "office"),
    (b"\0\0\0\x20ftypisom" + bytes(40), "not-an-image", "video"),
    (b"PK\x03\x04" + bytes(40), "not-an-image", "ZIP"),
    (b"<!DOCTYPE html><html><title>404</title>", "not-an-image", "web page"),
    (b"<html><body><svg></svg></body></html>", "not-an-image", "web page"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "not-an-image", "XML"),
    (b"Not found\n", "not-an-image", "text"),
    (bytes(500), "not-an-image", "zero bytes"),
    (b"\x93\x01\xfe\x80" * 9, "not-an-image", "no image format"),
    (b"BM and some more text", "not-an-image", "text"),
    (b"RIFF\x24\0\0\0WAVEfmt ", "not-an-image", "no image format"),
])  # fmt: skip
def test_what_is_no_image_is_named(data: bytes, reason: str, word: str) -> None:
    assert refused_at_once(data) == reason
    with pytest.raises(ImageRefused, match=word):
        identify(data)


def test_a_refusal_survives_a_queue() -> None:
    with pytest.raises(ImageRefused) as caught:
        identify(b"%PDF")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (again.reason, str(again)) == (caught.value.reason, str(caught.value))
    with pytest.raises(TypeError, match="unknown refusal reason"):
        ImageRefused("because", "no")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_is_refused_wherever_it_ends(kind: str) -> None:
    data = saved(photograph(), kind)
    # The last bytes are a JPEG's or GIF's trailer, and the padding of a BMP's last row.
    spare = {"JPEG": 2, "GIF": 2, "BMP": 2}.get(kind, 0)
    ends = [*range(1, 40), *random.Random(0).sample(range(40, len(data) - spare), 150), len(data) - 1 - spare]
    for end in ends:
        assert refusal(data[:end]) in {"truncated", "corrupt", "not-an-image", "format"}, end
    assert refusal(data[: len(data) * 2 // 3]) == "truncated"


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
def test_a_tiff_with_its_directory_first_is_found_cut_short(compression: str) -> None:
    data = saved(photograph(300, 200), "TIFF", compression=compression)
    with Image.open(io.BytesIO(data)) as image:
        last = max(
            offset + count
            for offset, count in zip(image.tag_v2[273], image.tag_v2[279], strict=True)  # type: ignore[attr-defined]
        )
    directory = struct.unpack_from("<I", data, 4)[0]
    if directory < last:
        assert refusal(data[: last - 1]) == "truncated"
    else:
        moved = bytearray(data)  # the strips said to lie where the file has ended
        offsets = next(at for at in range(directory + 2, len(data), 12) if data[at : at + 2] == struct.pack("<H", 273))
        kind, count, value = struct.unpack_from("<HII", data, offsets + 2)
        assert kind == 4
        struct.pack_into("<I", moved, value if count > 1 else offsets + 8, len(data) - 5)
        assert refusal(bytes(moved)) == "truncated"


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The data with bytes changed, cut out or put in, more often than not near its beginning."""
    result = bytearray(data)
    near = min(len(result), 400) if rng.random() < 0.6 else len(result)
    choice = rng.random()
    if choice < 0.6:
        for _ in range(rng.randint(1, 8)):
            result[rng.randrange(near)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    elif choice < 0.8:
        at = rng.randrange(near)
        result[at:at] = rng.randbytes(rng.randint(1, 40))
    else:
        at = rng.randrange(near)
        del result[at : at + rng.randint(1, 100)]
    return bytes(result)


def sound(kind: str) -> list[bytes]:
    """Images of one format and several pixel types and codings."""
    image = photograph()
    exif = Image.Exif()
    exif[274] = 6
    extra: list[bytes] = []
    if kind == "JPEG":
        extra = [saved(image, kind, progressive=True), saved(image.convert("CMYK"), kind)]
    elif kind == "PNG":
        extra = [saved(image.quantize(8), kind, transparency=2), saved(image.convert("LA"), kind)]
    elif kind == "WEBP":
        extra = [saved(image.convert("RGBA"), kind, lossless=True)]
    elif kind == "GIF":
        extra = [saved(image, kind, save_all=True, append_images=[image.rotate(90)], transparency=3)]
    elif kind == "TIFF":
        extra = [saved(image, kind, compression=name) for name in ("tiff_lzw", "jpeg", "packbits")]
        extra += [saved(image.convert("CMYK"), kind), saved(image.convert("F"), kind)]
        extra += [saved(image.convert("1"), kind, compression="group4")]
    elif kind == "BMP":
        extra = [saved(image.quantize(8), kind), bmp(16, 16, 8, 1, bytes(1024) + b"\x10\x01\0\0" * 16)]
    return [saved(image, kind, **({} if kind in {"GIF", "BMP"} else {"exif": exif})), *extra]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_never_raises_anything_else(kind: str) -> None:
    sources = sound(kind)
    rng = random.Random(7)
    outcomes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(400):
            data = mutated(rng.choice(sources), rng)
            for read in (identify, lambda data: decode(data, size=32), lambda data: thumbnail(data, box=32)):
                try:
                    read(data)
                    outcomes.add("taken")
                except ImageRefused as refused:
                    outcomes.add(refused.reason)
    assert outcomes >= {"taken", "truncated"}
    assert outcomes & {"corrupt", "format"}


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "JPEG", "WEBP"])
def test_limits_are_held_before_anything_is_decoded(kind: str) -> None:
    data = saved(photograph(), kind)
    assert refused_at_once(data, Limits(max_bytes=len(data) - 1)) == "too-large"
    assert refused_at_once(data, Limits(max_pixels=90 * 70 - 1)) == "too-many-pixels"
    assert refused_at_once(data, Limits(max_side=89)) == "too-many-pixels"
    assert identify(data, Limits(max_bytes=len(data), max_pixels=90 * 70, max_side=90)).width == 90
    assert refusal(data, Limits(max_memory=len(data))) == "too-many-pixels"


def test_claimed_sizes_are_not_believed() -> None:
    assert refused_at_once(png(60_000, 60_000, pixels=b"")) == "too-many-pixels"
    assert refused_at_once(bmp(1_000_000, 1_000_000, 24, 0, b"")) == "too-many-pixels"
    assert refused_at_once(tiff(GREY_TIFF | {256: (4, 1, 2**32 - 1), 257: (4, 1, 2**32 - 1)})) in {
        "too-many-pixels",
        "corrupt",
    }
    gif = saved(photograph(), "GIF")
    descriptor = gif.index(b",\0\0\0\0" + struct.pack("<HH", 90, 70))
    wide = gif[: descriptor + 5] + struct.pack("<HH", 65_535, 65_535) + gif[descriptor + 9 :]
    assert refused_at_once(wide) == "too-many-pixels"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of 100 million pixels, on its own account
        assert refused_at_once(png(40_000, 40_000, pixels=b"")) == "too-many-pixels"


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_pictures_of_no_size(width: int, height: int) -> None:
    assert refused_at_once(png(width, height)) == "too-small"
    assert refused_at_once(bmp(width, height, 24, 0, bytes(60))) == "too-small"
    assert refused_at_once(tiff(GREY_TIFF | {256: (3, 1, width), 257: (3, 1, height)})) == "too-small"


def test_progressive_jpegs_pay_for_their_coefficients() -> None:
    image = Image.new("RGB", (3000, 3000))
    limits = Limits(max_memory=40 * MIB)
    assert identify(saved(image, "JPEG", subsampling=0), limits).width == 3000
    decode(saved(image, "JPEG", subsampling=0), size=32, limits=limits)
    assert refused_at_once(saved(image, "JPEG", subsampling=0, progressive=True), limits) == "too-many-pixels"


def test_a_jpeg_of_thousands_of_scans() -> None:
    data = saved(photograph(), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert refused_at_once(data[:-2] + last * 3000 + data[-2:]) == "too-complex"


def test_jpegs_of_other_processes() -> None:
    data = saved(photograph(), "JPEG")
    frame = data.index(b"\xff\xc0")
    assert refused_at_once(data[: frame + 1] + b"\xc3" + data[frame + 2 :]) == "format"  # lossless
    assert refused_at_once(data[: frame + 4] + b"\x0c" + data[frame + 5 :]) == "format"  # 12 bits
    segment = data[frame : frame + 2 + struct.unpack_from(">H", data, frame + 2)[0]]
    assert refused_at_once(data[:frame] + segment + data[frame:]) == "corrupt"
    assert refused_at_once(data[:2] + data[-2:]) == "corrupt"


def test_metadata_cannot_inflate() -> None:
    bomb = zlib.compress(bytes(64 * MIB), 9)
    text = (
        chunk(b"zTXt", b"a\0\0" + bomb) * 20 + chunk(b"iCCP", b"a\0\0" + bomb) + chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)
    )
    assert not decode(png(60, 60, before=text), size=32)[0].any()
    assert refused_at_once(png(60, 60, before=chunk(b"tEXt", b"") * 70_000)) == "too-complex"


def test_animation_cannot_spoil_a_png() -> None:
    frames = chunk(b"acTL", struct.pack(">II", 2**31, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 9, 99, 99, 9, 9, 0, 0, 9, 9)
    )
    assert not decode(png(60, 60, before=frames), size=32)[0].any()


def test_tiffs_whose_tags_lie() -> None:
    assert decode(tiff(GREY_TIFF), size=32)[1].width == 10
    compressed = {259: (3, 1, 8)}
    tiles = {322: (4, 1, 40_000), 323: (4, 1, 40_000), 324: (4, 1, 8), 325: (4, 1, 100)}
    untiled = {number: fields for number, fields in GREY_TIFF.items() if number not in {273, 278, 279}}
    assert refused_at_once(tiff(untiled | compressed | tiles)) == "too-many-pixels"
    assert refused_at_once(tiff(GREY_TIFF | {273: (4, 2_000_000, 8)}, bytes(8 * MIB))) == "corrupt"
    assert refused_at_once(tiff(GREY_TIFF | {278: (3, 1, 1)})) == "corrupt"  # one strip where ten are needed
    assert refused_at_once(tiff(GREY_TIFF | {273: (4, 1, 5000)})) == "truncated"
    assert refused_at_once(tiff(GREY_TIFF | {273: (2, 1, 8)})) in {"truncated", "corrupt"}
    assert refused_at_once(tiff(GREY_TIFF | {277: (4, 1, 2**31)})) == "format"
    assert refused_at_once(tiff(GREY_TIFF | {259: (3, 1, 50_002)})) == "format"
    assert refused_at_once(tiff({256: (3, 1, 10)})) == "corrupt"
    assert refusal(tiff(GREY_TIFF | compressed)) in {"truncated", "corrupt"}
    # What no picture needs is not looked at, whatever it claims.
    claims = dict.fromkeys((270, 282, 305, 700, 34665, 34675, 34853), (5, 2**31, 8))
    assert decode(tiff(GREY_TIFF | claims), size=32)[1].width == 10


def test_gifs_with_endless_extensions() -> None:
    head = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0)
    assert refused_at_once(head + b"!\xfe\0" * 400_000) == "too-complex"
    assert refused_at_once(head + b"!\xfe" + b"\1a" * 400_000) == "too-complex"
    assert refused_at_once(head + b";") == "corrupt"


def test_run_length_bmps_are_bounded() -> None:
    good = bmp(16, 16, 8, 1, bytes(range(256)) * 4 + b"\x10\x01\0\0" * 16)
    assert decode(good, size=32)[1].width == 16
    assert refused_at_once(bmp(3000, 3000, 8, 1, bytes(2000))) == "too-many-pixels"
    assert refused_at_once(bmp(16, 16, 8, 1, bytes(1024) + b"\0\1" * 300_000)) == "corrupt"


def test_large_pictures_take_turns_and_come_out_right() -> None:
    data = saved(Image.new("RGB", (4000, 3000), (10, 200, 30)), "PNG", compress_level=1)
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(int(decode(data, size=32)[0][5, 5, 1]))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [200] * 4


PEAK = """
import resource, sys
from pathlib import Path
from shared.images import decode, thumbnail
data = Path(sys.argv[1]).read_bytes()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.argv[2] == "decode":
    decode(data, size=224)
else:
    thumbnail(data, box=320)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB on Linux")
@pytest.mark.parametrize(("mode", "kind", "options", "allowed"), [
    ("RGBA", "PNG", {"compress_level": 1}, 4), ("RGB", "JPEG", {}, 0.5), ("CMYK", "JPEG", {}, 0.5), ("P", "PNG", {}, 1),
    ("L", "JPEG", {"progressive": True}, 2.5), ("CMYK", "TIFF", {"compression": "tiff_lzw"}, 5), ("F", "TIFF", {}, 5),
    ("RGB", "WEBP", {"method": 0}, 16), ("P", "GIF", {}, 1),
])  # fmt: skip
def test_a_large_picture_is_never_copied_whole(
    tmp_path: Path, mode: str, kind: str, options: dict[str, Any], allowed: float
) -> None:
    """The peak beyond the file stays within the bytes per pixel of one copy, and 24 MiB for all that is small."""
    width, height = 3600, 3000
    path = tmp_path / "large"
    image = Image.linear_gradient("L").resize((width, height))
    path.write_bytes(saved(image.convert("RGB").convert(mode), kind, **options))
    root = ROOT
    for what in ("decode", "thumbnail"):
        command = [sys.executable, "-c", PEAK, str(path), what]
        peak = int(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)
        assert peak <= allowed * width * height / MIB + 24, what
