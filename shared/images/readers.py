"""Reads an image file's header by hand, with bounds, and picks the parts of the file that make its picture.

Only those parts are ever shown to a decoder. Colour profiles, text, EXIF, comments, animation and further pages are
left out, so that nothing which may be wrong or hostile in them costs memory, time or the picture. What matters of them
(the orientation, the colour profile) is read here. Of HEIC, AVIF and JPEG 2000 the decoders read the header.

Sources of the layouts: PNG Specification third edition, GIF89a, RFC 9649 (WebP), and
the BITMAPINFOHEADER family (BMP). TIFF and JPEG have modules of their own.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.images import library_headers, pdf, profiles
from shared.images.contract import File, Flag, ImageRefused
from shared.images.damage import ends_in_zeros, has_hole
from shared.images.header import Header, corrupt, no_such_page, too_complex, truncated
from shared.images.jpeg import read_jpeg
from shared.images.raw_kinds import preview_of
from shared.images.sniffing import sniff
from shared.images.splicing import KEPT, Passage
from shared.images.tags import exif_orientation
from shared.images.tiff import raw_preview
from shared.images.tiff_pages import tiff_page

if TYPE_CHECKING:
    from shared.images.splicing import Part

_MAX_CHUNKS = 65_536  # of a PNG; a 64 MiB one with the usual 8 KiB chunks has 8,192
_MAX_BLOCKS = 300_000  # of a GIF's extensions; 64 MiB of full ones are 262,144
_MAX_RLE_PIXELS = 4_000_000  # Pillow expands run-length BMPs in Python


def read_header(data: File, page: int = 1) -> Header:
    """The header of an image file, or of a page of a document.

    Raises:
        ImageRefused: the file is empty, of no format that is taken, truncated, or contradicts itself.
    """
    name = sniff(data)
    try:
        if name == "raw":
            preview = preview_of(data)
            return _raw(data, preview.start, preview.end, preview.orientation)
        if name == "tiff" and (place := raw_preview(data)) is not None:
            return _raw(data, *place)
        if name in _DOCUMENTS:
            return _DOCUMENTS[name](data, page)
        if page != 1:
            raise no_such_page(name, page, 1)
        return _READERS[name](data)
    except (struct.error, IndexError, OverflowError) as error:
        raise truncated(name, "inside its header") from error


def _raw(data: File, start: int, end: int, orientation: int) -> Header:
    """The header of a camera's RAW file: that of its full-size preview."""
    header = read_jpeg(data[start:end])
    parts = tuple(part if isinstance(part, bytes) else (start + part[0], start + part[1]) for part in header.parts)
    return replace(header, format="raw", parts=parts, orientation=max(header.orientation, orientation))


_PNG_ROWS = 64  # that a decoder holds
_PNG_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


def _png(data: File) -> Header:
    parts: list[Part] = [data[:8]]
    position = 8
    orientation = 0
    width = height = depth = colour = interlaced = 0
    profile: bytes | None = None
    passage = Passage(data)
    for index in range(_MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise truncated("png", "before its picture does")
        if (kind == b"IHDR") != (index == 0):
            raise corrupt("png", "its header is not in its place")
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", data, position + 8)
            interlaced = data[position + 20]
        elif kind == b"eXIf" and not orientation:
            orientation = exif_orientation(data[position + 8 : position + 8 + length])
        elif kind == b"iCCP" and profile is None:
            _, _, packed = data[position + 8 : end - 4].partition(b"\0")
            profile = profiles.inflated(packed[1:])
        elif kind == b"IDAT" and _checksum(data, position + 4, end - 4, passage) != _uint32(data, end - 4):
            raise corrupt("png", "a checksum of its samples is wrong")
        if kind in _PNG_NEEDED:
            last = parts[-1]
            if isinstance(last, tuple) and last[1] == position:
                parts[-1] = last[0], end
            else:
                parts.append((position, end))
        position = end
        if kind == b"IEND":
            break
    else:
        raise too_complex("png", f"more than {_MAX_CHUNKS} chunks")
    pixel_bytes = 4 if colour in {2, 4, 6} else 2 if depth == 16 else 1
    return Header(
        "png",
        width,
        height,
        tuple(parts),
        pixel_bytes,
        fixed_bytes=_PNG_ROWS * 8 * width,
        orientation=orientation or 1,
        profile=profiles.needed(profile),
        streams=not interlaced,
        vips=depth == 16,
    )


def _checksum(data: File, start: int, stop: int, passage: Passage) -> int:
    checksum = 0
    for begin in range(start, stop, KEPT):
        with memoryview(data)[begin : min(stop, begin + KEPT)] as piece:
            checksum = zlib.crc32(piece, checksum)
            passage.note(len(piece))
    return checksum


def _gif(data: File) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = start = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    control = b""
    blocks = 0
    while data[position] != 0x2C:
        if data[position] == 0x3B:
            raise corrupt("gif", "it ends before its first picture")
        if data[position] != 0x21:  # stray bytes are skipped, as browsers do
            position += 1
            blocks += 1
        else:
            if data[position + 1] == 0xF9 and data[position + 2] == 4:
                # The transparent colour counts; delays and disposal are for animations.
                control = bytes((0x21, 0xF9, 4, data[position + 3] & 1, 0, 0, data[position + 6], 0))
            position += 2
            while (size := data[position]) and blocks <= _MAX_BLOCKS:
                position += size + 1
                blocks += 1
            position += 1
            blocks += 1
        if blocks > _MAX_BLOCKS:
            raise too_complex("gif", f"more than {_MAX_BLOCKS} blocks before its picture")
    left, top, across, down = struct.unpack_from("<HHHH", data, position + 1)
    if not across or not down:
        raise corrupt("gif", f"its first picture is {across} x {down} pixels")
    width, height = max(width, left + across), max(height, top + down)
    return Header("gif", width, height, ((0, start), control, (position, len(data))), pixel_bytes=1)


def _bmp(data: File) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    compression = 0
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        height = abs(height)  # negative: the rows go downwards
    if width < 0:
        raise corrupt("bmp", f"its width is {width}")
    if compression in {1, 2}:
        if width * height > _MAX_RLE_PIXELS:
            msg = (
                f"this run-length BMP has {width} x {height} pixels, of which at most {_MAX_RLE_PIXELS} are taken: "
                "save it as PNG"
            )
            raise ImageRefused("too-many-pixels", msg)
        if len(data) > (2 * width + 4) * height + 65_536:  # no pixel needs more than two bytes, no row's end than four
            raise corrupt("bmp", f"{len(data)} bytes are too many for its {width} x {height} pixels")
    row = (width * bits + 31) // 32 * 4
    start = int(struct.unpack_from("<I", data, 10)[0])
    damaged = not compression and row > 0 and ends_in_zeros(data, start, start + row * height, row)
    return Header(
        "bmp",
        width,
        height,
        ((0, len(data)),),
        pixel_bytes=1 if bits <= 8 else 4,
        flags=("damaged",) if damaged else (),
    )


_WEBP_NEEDED = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})


def _webp(data: File) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise truncated("webp", "before its picture does")
    parts: list[Part] = []
    kinds: set[bytes] = set()
    profile: bytes | None = None
    position = 12
    width = height = orientation = 0
    holed = False
    for _ in range(_MAX_CHUNKS):
        if position + 8 > size + 8:
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        body = position + 8
        end = body + length + (length & 1)
        if end > size + 8 + (length & 1):  # the last chunk may lack its padding
            raise truncated("webp", "before its picture does")
        if kind == b"VP8X" and position == 12:
            features, width, height = data[body], _uint24(data, body + 4) + 1, _uint24(data, body + 7) + 1
            # Alpha and animation stay announced; the profile and metadata are left out.
            parts.append(data[position:body] + bytes([features & 0x12]) + data[body + 1 : end])
        elif kind in _WEBP_NEEDED:
            holed = holed or (kind == b"VP8 " and has_hole(data, body, min(end, len(data))))
            if kind not in kinds:  # of an animation its first frame
                parts.append((position, end))
            kinds.add(kind)
            if not width:
                width, height = _webp_sides(kind, data, body)
        elif kind == b"ICCP" and profile is None and length <= profiles.MAX_PROFILE:
            profile = data[body : body + length]
        elif kind == b"EXIF" and not orientation:
            orientation = exif_orientation(data[body:end].removeprefix(b"Exif\0\0"))
        position = end
    else:
        raise too_complex("webp", f"more than {_MAX_CHUNKS} chunks")
    if not kinds & {b"VP8 ", b"VP8L", b"ANMF"}:
        raise corrupt("webp", "it holds no picture")
    flags: tuple[Flag, ...] = ("damaged",) if holed else ()
    header = Header("webp", width, height, tuple(parts), 16, orientation=orientation or 1, flags=flags)
    return _webp_of(header, profile)


def _webp_sides(kind: bytes, data: File, body: int) -> tuple[int, int]:
    """Width and height as a chunk of samples has them; 0 where it has none."""
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, body + 1)
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, body + 6)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _webp_of(header: Header, profile: bytes | None) -> Header:
    """The header with a head of the file in front of the parts."""
    length = sum(len(part) if isinstance(part, bytes) else part[1] - part[0] for part in header.parts)
    head = b"RIFF" + struct.pack("<I", length + 4) + b"WEBP"
    # Pillow reads all of it at once; its decoder keeps two canvases and hands over a third, Pillow keeps a fourth.
    return replace(header, parts=(head, *header.parts), fixed_bytes=length, profile=profiles.needed(profile))


def _uint32(data: File, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "big")


def _uint24(data: File, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")


_READERS: dict[str, Callable[[File], Header]] = {
    "jpeg": read_jpeg,
    "png": _png,
    "gif": _gif,
    "bmp": _bmp,
    "webp": _webp,
    "jp2": library_headers.jp2,
    "heic": library_headers.heic,
    "avif": library_headers.avif,
}
_DOCUMENTS: dict[str, Callable[[File, int], Header]] = {"tiff": tiff_page, "pdf": pdf.read_pdf}
