"""Reads a JPEG's header, with bounds, and finds the parts of the file that make its picture (ITU-T T.81 annex B)."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.images import profiles
from shared.images.contract import File, ImageRefused
from shared.images.damage import Holes, ProgressiveHoles, SequentialHoles, has_hole
from shared.images.header import Header, corrupt, not_read, too_complex, truncated
from shared.images.tags import exif_orientation

if TYPE_CHECKING:
    from shared.images.splicing import Part

_MAX_SEGMENTS = 10_000  # before a JPEG's first scan; 64 MiB of full ones are 1,024
_MAX_SCANS = 100  # of a JPEG; usual are 10, and each is a pass over the whole picture however few its bytes

# A marker is 0xFF before a byte other than 0x00 and 0xFF: what else lies between segments is skipped.
_MARKER = re.compile(rb"\xff([\x01-\xfe])", re.DOTALL)
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOF_PROGRESSIVE = frozenset({0xC2, 0xCA})
_SOF_TAKEN = frozenset({0xC0, 0xC1, 0xC9}) | _SOF_PROGRESSIVE
_LEAST_COLOUR_SEGMENT = 12  # bytes
_DHT, _SOS, _EOI, _EXIF, _ICC, _COMMENT = 0xC4, 0xDA, 0xD9, 0xE1, 0xE2, 0xFE
_STANDALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
# The same within a scan, where restart markers are part of the picture.
_MARKER_AFTER_SCAN = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])", re.DOTALL)


def read_jpeg(data: File) -> Header:
    """Read the header of a JPEG."""
    head = [b"\xff\xd8"]
    frame: _Frame | None = None
    orientation = 0
    profile: list[bytes] = []
    tables: list[bytes] = []
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
        elif marker == _DHT:
            tables.append(segment)
        elif marker == _ICC and segment.startswith(b"ICC_PROFILE\0"):
            profile.append(segment[12:])
        # Of the application segments only JFIF's and Adobe's say how the colours are coded, unless they are cut short.
        says_colours = segment.startswith((b"JFIF\0", b"Adobe")) and len(segment) >= _LEAST_COLOUR_SEGMENT
        if not (0xE0 <= marker <= 0xEF or marker == _COMMENT) or says_colours:
            head.append(bytes((0xFF, marker)) + data[body - 2 : end])
    if frame is None:
        raise corrupt("jpeg", "its picture begins without a frame header")
    complete = data.rfind(b"\xff\xd9", end) >= 0
    parts: list[Part] = [b"".join(head), (body - 4, len(data))]
    if not complete:  # a decoder tells whether its samples are all there
        parts.append(b"\xff\xd9" if data[-1] != 0xFF else b"\xd9")
    holes = ProgressiveHoles(tables) if frame.progressive else SequentialHoles(tables)
    # A picture in several scans is held whole, as 16-bit coefficients, until its last scan is read.
    several_scans = frame.progressive or segment[0] < frame.components
    scans = (_scans if several_scans else _one_scan)(data, end, segment, holes)
    if scans > _MAX_SCANS:
        raise too_complex("jpeg", f"more than {_MAX_SCANS} scans")
    damaged = holes.found and (complete or frame.progressive)
    padded = (frame.width + 64) * (frame.height + 64)
    return Header(
        "jpeg",
        frame.width,
        frame.height,
        tuple(parts),
        pixel_bytes=1 if frame.components == 1 else 4,
        fixed_bytes=int(2 * frame.samples * padded) if several_scans else 0,
        orientation=orientation or 1,
        profile=profiles.needed(_joined(profile)),
        passes=scans,
        vips=not complete,
        complete=complete,
        flags=("damaged",) if damaged else (),
    )


def _joined(pieces: list[bytes]) -> bytes | None:
    """The profile of its pieces, each behind its number and the count of all; None where they are no whole one.

    Source: ICC.1:2022, annex B.4.
    """
    ordered = sorted(pieces)
    numbers = [tuple(piece[:2]) for piece in ordered]
    if numbers != [(number, len(pieces)) for number in range(1, len(pieces) + 1)]:
        return None
    return b"".join(piece[2:] for piece in ordered)


@dataclass(frozen=True)
class _Frame:
    """A JPEG's frame header; `samples` counts the samples per pixel of all components together."""

    progressive: bool
    width: int
    height: int
    components: int
    samples: float


def _segments(data: File) -> Iterator[tuple[int, int, int]]:
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
    raise too_complex("jpeg", f"more than {_MAX_SEGMENTS} segments before its picture")


def _one_scan(data: File, position: int, head: bytes, holes: Holes) -> int:
    """As `_scans`, of a JPEG in one scan, behind which anything may lie."""
    if has_hole(data, position, len(data)):  # told faster than where the scan ends, and seldom so
        after = _MARKER_AFTER_SCAN.search(data, position)
        holes.look(data, head, position, len(data) if after is None else after.start())
    return 1


def _scans(data: File, position: int, head: bytes, holes: Holes) -> int:
    """How many scans a JPEG has, where its first one's data begins at `position`; stops beyond `_MAX_SCANS`.

    `head` is the body of its first SOS segment; `holes` gets to see each scan.

    A decoder passes over whole segments between scans, so what lies in them is no marker.
    """
    scans, began = 1, position
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER_AFTER_SCAN.search(data, position)
        holes.look(data, head, began, len(data) if match is None else match.start())
        head = b""
        if match is None or match[1][0] == _EOI or match.end() + 2 > len(data):
            return scans
        (length,) = struct.unpack_from(">H", data, match.end())
        position = match.end() + max(2, length)
        body = data[match.end() + 2 : position]
        if match[1][0] == _DHT:
            holes.define(body)
        elif match[1][0] == _SOS:
            scans, head, began = scans + 1, body, position
        if scans > _MAX_SCANS:
            return scans
    raise too_complex("jpeg", f"more than {_MAX_SEGMENTS} segments between its scans")


def _frame(marker: int, segment: bytes) -> _Frame:
    if marker not in _SOF_TAKEN:
        msg = "this JPEG uses a lossless or hierarchical coding that is not taken: save it as a plain JPEG"
        raise ImageRefused("format", msg)
    bits, height, width, components = struct.unpack_from(">BHHB", segment)
    if bits != 8:
        msg = f"this JPEG has {bits} bits per sample, of which only 8 are taken: save it as a plain JPEG"
        raise ImageRefused("format", msg)
    if not height:
        raise not_read("jpeg", "its height behind its first scan (DNL)")
    factors = segment[7 : 6 + 3 * components : 3]
    across, down = [byte >> 4 for byte in factors], [byte & 15 for byte in factors]
    if len(factors) != components or not components or not min(across + down):
        raise corrupt("jpeg", "its frame header has no valid components")
    samples = sum(h * v for h, v in zip(across, down, strict=True)) / (max(across) * max(down))
    return _Frame(marker in _SOF_PROGRESSIVE, width, height, components, samples)
