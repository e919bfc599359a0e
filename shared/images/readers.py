"""Reads an image file's header by hand, with bounds, and picks the parts of the file that make its picture.

Only those parts are ever shown to a decoder. Colour profiles, text, EXIF, comments, animation and further pages are
left out, so that nothing which may be wrong or hostile in them costs memory, time or the picture. What matters of them
(the orientation, the colour profile of a CMYK picture) is read here.

Sources of the layouts: ITU-T T.81 annex B (JPEG), PNG Specification third edition, GIF89a, RFC 9649 (WebP), and
the BITMAPINFOHEADER family (BMP). TIFF has a module of its own.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.images.contract import ImageRefused
from shared.images.header import Header, corrupt, truncated
from shared.images.sniffing import sniff
from shared.images.tags import exif_orientation
from shared.images.tiff import read_tiff

if TYPE_CHECKING:
    from shared.images.splicing import Part

_MAX_CHUNKS = 65_536  # of a PNG; a 64 MiB one with the usual 8 KiB chunks has 8,192
_MAX_SEGMENTS = 10_000  # before a JPEG's first scan; 64 MiB of full ones are 1,024
_MAX_SCANS = 100  # of a JPEG; usual are 10, and each is a pass over the whole picture however few its bytes
_MAX_BLOCKS = 300_000  # of a GIF's extensions; 64 MiB of full ones are 262,144
_MAX_RLE_PIXELS = 4_000_000  # Pillow expands run-length BMPs in Python


def read_header(data: bytes) -> Header:
    """The header of an image file.

    Raises:
        ImageRefused: the file is empty, of no format that is taken, truncated, or contradicts itself.
    """
    name = sniff(data)
    try:
        return _READERS[name](data)
    except (struct.error, IndexError, OverflowError) as error:
        raise truncated(name, "inside its header") from error


# A marker is 0xFF before a byte other than 0x00 and 0xFF: what else lies between segments is skipped.
_MARKER = re.compile(rb"\xff([\x01-\xfe])", re.DOTALL)
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOF_PROGRESSIVE = frozenset({0xC2, 0xCA})
_SOF_TAKEN = frozenset({0xC0, 0xC1, 0xC9}) | _SOF_PROGRESSIVE
_SOS, _EOI, _EXIF, _ICC, _COMMENT = 0xDA, 0xD9, 0xE1, 0xE2, 0xFE
_STANDALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})


def _jpeg(data: bytes) -> Header:
    head = [b"\xff\xd8"]
    frame: _Frame | None = None
    orientation = 0
    profile: list[bytes] = []
    for marker, body, end in _segments(data):
        segment = data[body:end]
        if marker == _SOS:
            break
        if marker in _SOF:
            if frame is not None:
                raise corrupt("jpeg", "it describes its picture twice")
            frame = _frame(marker, segment)
        elif marker == _EXIF and not orientation and segment.startswith(b"Exif\0\0"):
            orientation = exif_orientation(segment[6:])
        elif marker == _ICC and segment.startswith(b"ICC_PROFILE\0"):
            profile.append(segment[12:])
        # Of the application segments only JFIF's and Adobe's say how the colours are coded.
        if not (0xE0 <= marker <= 0xEF or marker == _COMMENT) or segment.startswith((b"JFIF\0", b"Adobe")):
            head.append(bytes((0xFF, marker)) + data[body - 2 : end])
    if frame is None:
        raise corrupt("jpeg", "its picture begins without a frame header")
    # A picture in several scans is held whole, as 16-bit coefficients, until its last scan is read.
    several_scans = frame.progressive or segment[0] < frame.components
    scans = data.count(b"\xff\xda", body - 4, data.find(b"\xff\xd9", body) % (len(data) + 1))
    if several_scans and scans > _MAX_SCANS:
        raise corrupt("jpeg", f"it has {scans} scans")
    padded = (frame.width + 64) * (frame.height + 64)
    return Header(
        "jpeg",
        frame.width,
        frame.height,
        (b"".join(head), (body - 4, len(data))),
        pixel_bytes=1 if frame.components == 1 else 4,
        fixed_bytes=int(2 * frame.samples * padded) if several_scans else 0,
        orientation=orientation or 1,
        profile=b"".join(piece[2:] for piece in sorted(profile)) if frame.components == 4 else None,
    )


@dataclass(frozen=True)
class _Frame:
    """A JPEG's frame header; `samples` counts the samples per pixel of all components together."""

    progressive: bool
    width: int
    height: int
    components: int
    samples: float


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The segments of a JPEG up to its first scan: marker, and start and end of the body."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(data, position)
        if match is None:
            raise truncated("jpeg", "before its picture begins")
        marker, position = match[1][0], match.end()
        if marker in _STANDALONE:
            continue
        if marker == _EOI:
            raise corrupt("jpeg", "it ends before its picture begins")
        (length,) = struct.unpack_from(">H", data, position)
        if length < 3:
            raise corrupt("jpeg", f"a segment in its header has {length} bytes")
        if position + length > len(data):
            raise truncated("jpeg", "before its picture begins")
        yield marker, position + 2, position + length
        if marker == _SOS:
            return
        position += length
    raise corrupt("jpeg", f"more than {_MAX_SEGMENTS} segments stand before its picture")


def _frame(marker: int, segment: bytes) -> _Frame:
    if marker not in _SOF_TAKEN:
        msg = "this JPEG uses a lossless or hierarchical coding that is not taken: save it as a plain JPEG"
        raise ImageRefused("format", msg)
    bits, height, width, components = struct.unpack_from(">BHHB", segment)
    if bits != 8:
        msg = f"this JPEG has {bits} bits per sample, of which only 8 are taken: save it as a plain JPEG"
        raise ImageRefused("format", msg)
    factors = segment[7 : 6 + 3 * components : 3]
    across, down = [byte >> 4 for byte in factors], [byte & 15 for byte in factors]
    if len(factors) != components or not components or not min(across + down):
        raise corrupt("jpeg", "its frame header has no valid components")
    samples = sum(h * v for h, v in zip(across, down, strict=True)) / (max(across) * max(down))
    return _Frame(marker in _SOF_PROGRESSIVE, width, height, components, samples)


_PNG_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


def _png(data: bytes) -> Header:
    parts: list[Part] = [data[:8]]
    position = 8
    orientation = 1
    width = height = depth = colour = 0
    for index in range(_MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise truncated("png", "before its picture does")
        if (kind == b"IHDR") != (index == 0):
            raise corrupt("png", "its header is not in its place")
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", data, position + 8)
        elif kind == b"eXIf":
            orientation = exif_orientation(data[position + 8 : position + 8 + length])
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
        raise corrupt("png", f"it has more than {_MAX_CHUNKS} chunks")
    pixel_bytes = 4 if colour in {2, 4, 6} else 2 if depth == 16 else 1
    return Header("png", width, height, tuple(parts), pixel_bytes, orientation=orientation)


def _gif(data: bytes) -> Header:
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
            raise corrupt("gif", f"more than {_MAX_BLOCKS} blocks stand before its picture")
    left, top, across, down = struct.unpack_from("<HHHH", data, position + 1)
    if not across or not down:
        raise corrupt("gif", f"its first picture is {across} x {down} pixels")
    width, height = max(width, left + across), max(height, top + down)
    return Header("gif", width, height, ((0, start), control, (position, len(data))), pixel_bytes=1)


def _bmp(data: bytes) -> Header:
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
    return Header("bmp", width, height, ((0, len(data)),), pixel_bytes=1 if bits <= 8 else 4)


_WEBP_NEEDED = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})


def _webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise truncated("webp", "before its picture does")
    parts: list[Part] = []
    kinds: set[bytes] = set()
    position = 12
    width = height = 0
    orientation = 1
    for _ in range(_MAX_CHUNKS):
        if position + 8 > size + 8:
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        body = position + 8
        end = body + length + (length & 1)
        if end > size + 8 + (length & 1):  # the last chunk may lack its padding
            raise truncated("webp", "before its picture does")
        if kind == b"VP8X" and position == 12:
            flags, width, height = data[body], _uint24(data, body + 4) + 1, _uint24(data, body + 7) + 1
            # Alpha and animation stay announced; the profile and metadata are left out.
            parts.append(data[position:body] + bytes([flags & 0x12]) + data[body + 1 : end])
        elif kind in _WEBP_NEEDED:
            if kind not in kinds:  # of an animation its first frame
                parts.append((position, end))
            kinds.add(kind)
            if not width and kind == b"VP8L":
                (packed,) = struct.unpack_from("<I", data, body + 1)
                width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
            elif not width and kind == b"VP8 ":
                width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, body + 6))
        elif kind == b"EXIF":
            orientation = exif_orientation(data[body:end].removeprefix(b"Exif\0\0"))
        position = end
    else:
        raise corrupt("webp", f"it has more than {_MAX_CHUNKS} chunks")
    if not kinds & {b"VP8 ", b"VP8L", b"ANMF"}:
        raise corrupt("webp", "it holds no picture")
    length = sum(len(part) if isinstance(part, bytes) else part[1] - part[0] for part in parts)
    head = b"RIFF" + struct.pack("<I", length + 4) + b"WEBP"
    # Pillow reads all of it at once; its decoder keeps two canvases and hands over a third, Pillow keeps a fourth.
    return Header("webp", width, height, (head, *parts), pixel_bytes=16, fixed_bytes=length, orientation=orientation)


def _uint24(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")


_READERS: dict[str, Callable[[bytes], Header]] = {
    "jpeg": _jpeg,
    "png": _png,
    "gif": _gif,
    "bmp": _bmp,
    "webp": _webp,
    "tiff": read_tiff,
}
