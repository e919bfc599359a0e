"""Finds the blocks of metadata in image files: EXIF, IPTC-IIM and XMP, as bytes."""

import re
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from shared.records.heif_blocks import exif_of

MAX_BLOCK: Final = 8 * 2**20  # bytes
_WINDOW: Final = 8 * 2**20  # bytes from each end of a file of another kind in which XMP is looked for
_EXIF: Final = b"Exif\0\0"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_PHOTOSHOP: Final = b"Photoshop 3.0\0"
_IPTC_RESOURCE: Final = 0x0404
_TAG_XMP, _TAG_IPTC = 700, 33723
_MARKER: Final = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_LENGTHS: Final = struct.Struct(">III")
_MAX_PARTS: Final = 65_536  # segments, chunks or resources of a file that are looked at
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}  # bytes of a value by the type of a TIFF tag


@dataclass
class Blocks:
    """The blocks of a file; empty: it has none. EXIF begins with the header of a TIFF file."""

    exif: bytes = b""
    iptc: bytes = b""
    xmp: bytes = b""

    def __bool__(self) -> bool:
        return bool(self.exif or self.iptc or self.xmp)

    def pack(self) -> bytes:
        """Return them as one string of bytes: three lengths, and the blocks one after another."""
        parts = self.exif, self.iptc, self.xmp
        return _LENGTHS.pack(*map(len, parts)) + b"".join(parts)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Return what `pack` has packed."""
        exif, iptc, _ = _LENGTHS.unpack_from(packed)
        rest = packed[_LENGTHS.size :]
        return cls(rest[:exif], rest[exif : exif + iptc], rest[exif + iptc :])


SAMPLE: Final = Blocks(
    exif=b"II*\0\x08\0\0\0\x01\0\x3b\x01\x02\0\x04\0\0\0Ann\0\0\0\0\0",
    iptc=b"\x1c\x02\x50\0\x03Ann",
    xmp=b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:p="http://ns.adobe.com/photoshop/1.0/" p:Credit="Ann"/></rdf:RDF>',
).pack()
"""Packed blocks that say Ann, of which everything has to be loaded that reads metadata."""


def find_blocks(data: bytes) -> Blocks:
    """Return the blocks of an image file, whatever else it holds."""
    try:
        if data[:2] == b"\xff\xd8":
            return _of_jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _of_png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _of_webp(data)
        if data[:4] in {b"II*\0", b"MM\0*"}:
            return _of_tiff(data)
        return Blocks(exif=exif_of(data) if data[4:8] == b"ftyp" else b"", xmp=_xmp_within(data))
    except (IndexError, ValueError, zlib.error):
        return Blocks()


def _of_jpeg(data: bytes) -> Blocks:
    blocks, photoshop = Blocks(), list[bytes]()
    for marker, part in _segments(data):
        if marker == 0xE1 and part.startswith(_EXIF) and not blocks.exif:
            blocks.exif = part[len(_EXIF) :]
        elif marker == 0xE1 and part.startswith(_XMP) and not blocks.xmp:
            blocks.xmp = part[len(_XMP) :]
        elif marker == 0xED and part.startswith(_PHOTOSHOP):
            photoshop.append(part[len(_PHOTOSHOP) :])
    blocks.iptc = _resource(b"".join(photoshop))
    return blocks


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 2
    for _ in range(_MAX_PARTS):
        match = _MARKER.match(data, place)
        if match is None or match[1][0] in {0xD9, 0xDA} or match.end() + 2 > len(data):
            return
        place = match.end()
        size = int.from_bytes(data[place : place + 2], "big")
        yield match[1][0], data[place + 2 : place + size]
        place += max(2, size)


def _resource(photoshop: bytes) -> bytes:
    """Return the IPTC block of Photoshop's image resources."""
    place = 0
    for _ in range(_MAX_PARTS):
        if photoshop[place : place + 4] != b"8BIM":
            break
        number = int.from_bytes(photoshop[place + 4 : place + 6], "big")
        place += 6 + (photoshop[place + 6] // 2 + 1) * 2
        size = int.from_bytes(photoshop[place : place + 4], "big")
        if number == _IPTC_RESOURCE:
            return photoshop[place + 4 : place + 4 + size]
        place += 4 + size + size % 2
    return b""


def _of_png(data: bytes) -> Blocks:
    blocks, place = Blocks(), 8
    for _ in range(_MAX_PARTS):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if len(kind) < 4 or kind == b"IEND":
            break
        part = data[place + 8 : place + 8 + size] if kind in {b"eXIf", b"iTXt"} and size <= MAX_BLOCK else b""
        if kind == b"eXIf" and not blocks.exif:
            blocks.exif = part
        elif not blocks.xmp and part.startswith(b"XML:com.adobe.xmp\0"):
            compressed, text = part[18], part[20:].split(b"\0", 2)[2]
            blocks.xmp = zlib.decompressobj().decompress(text, MAX_BLOCK) if compressed else text
        place += 12 + size
    return blocks


def _of_webp(data: bytes) -> Blocks:
    blocks, place = Blocks(), 12
    for _ in range(_MAX_PARTS):
        if place + 8 > len(data):
            break
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if kind == b"EXIF" and not blocks.exif:
            blocks.exif = data[place + 8 : place + 8 + size].removeprefix(_EXIF)
        elif kind == b"XMP " and not blocks.xmp:
            blocks.xmp = data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    return blocks


def _of_tiff(data: bytes) -> Blocks:
    order = "little" if data[:2] == b"II" else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], order)  # type: ignore[arg-type]

    blocks, directory = Blocks(exif=data), number(4, 4)
    for entry in range(min(number(directory, 2), 1000)):
        place = directory + 2 + 12 * entry
        tag, size = number(place, 2), number(place + 4, 4) * _SIZES.get(number(place + 2, 2), 1)
        if not 4 < size <= MAX_BLOCK:
            continue
        start = number(place + 8, 4)
        if tag == _TAG_XMP and not blocks.xmp:
            blocks.xmp = data[start : start + size]
        elif tag == _TAG_IPTC and not blocks.iptc:
            part = data[start : start + size]
            blocks.iptc = part if part[:1] == b"\x1c" else _swapped(part)
    return blocks


def _swapped(part: bytes) -> bytes:
    """Return a block that was written as numbers of four bytes in the other order."""
    numbers = array("I", part[: len(part) // 4 * 4])
    numbers.byteswap()
    return numbers.tobytes()


def _xmp_within(data: bytes) -> bytes:
    for window in (data[:_WINDOW], data[-_WINDOW:]):
        start = window.find(b"<x:xmpmeta")
        end = window.find(b"</x:xmpmeta>", start)
        if 0 <= start < end <= start + MAX_BLOCK:
            return window[start : end + 12]
    return b""
