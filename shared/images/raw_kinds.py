"""Full-size previews in camera RAW files that are no TIFFs, or not quite: Fujifilm's RAF, Panasonic's RW2, Canon's CR3.

Sources of the layouts: the tables of ExifTool, and for CR3 what Laurent Clevy has written down.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.images.boxes import boxes
from shared.images.contract import File
from shared.images.raw import FULL_SIZE, jpeg_size, no_full_size
from shared.images.tags import Tags, exif_orientation

_RAF, _RW2, _CR3 = b"FUJIFILMCCD-RAW", b"IIU\0", b"ftypcrx "
_KINDS = (
    (0, _RAF, "a Fujifilm RAW file (RAF)"),
    (0, _RW2, "a Panasonic RAW file (RW2)"),
    (4, _CR3, "a Canon RAW file (CR3)"),
)
_RAF_JPEG, _RAF_FACTS, _RAF_SIZE, _MAX_FACTS = 84, 92, 0x100, 256
_RW2_HEIGHT, _RW2_WIDTH, _RW2_JPEG, _ORIENTATION = 2, 3, 0x2E, 274
_CRAW_WIDTH = 40  # where in the box of sample descriptions


@dataclass(frozen=True)
class Preview:
    """Where a JPEG lies in a file, and the orientation that the file gives."""

    start: int
    end: int
    orientation: int


def raw_kind(data: File) -> str:
    """Return what to call a RAF, RW2 or CR3 file, by its first bytes; empty: it is of another kind."""
    return next((kind for at, magic, kind in _KINDS if data[at : at + len(magic)] == magic), "")


def preview_of(data: File) -> Preview:
    """Return the full-size preview of a RAF, RW2 or CR3 file.

    Raises:
        ImageRefused: It has none.
    """
    find = _of_raf if data[: len(_RAF)] == _RAF else _of_rw2 if data[: len(_RW2)] == _RW2 else _of_cr3
    try:
        found, sensor = find(data)
    except struct.error:
        found, sensor = None, 0
    if (
        found is None
        or not 0 < found.start < found.end <= len(data)
        or data[found.start : found.start + 2] != b"\xff\xd8"
        or not sensor
        or max(jpeg_size(data[found.start : found.end])) < FULL_SIZE * sensor
    ):
        raise no_full_size(raw_kind(data))
    return found


def _of_raf(data: File) -> tuple[Preview | None, int]:
    start, size = struct.unpack_from(">II", data, _RAF_JPEG)
    (position,) = struct.unpack_from(">I", data, _RAF_FACTS)
    (count,) = struct.unpack_from(">I", data, position)
    position += 4
    for _ in range(min(count, _MAX_FACTS)):
        number, length = struct.unpack_from(">HH", data, position)
        if number == _RAF_SIZE:
            return Preview(start, start + size, 1), max(struct.unpack_from(">HH", data, position + 4))
        position += 4 + length
    return None, 0


def _of_rw2(data: File) -> tuple[Preview | None, int]:
    tags = Tags(data, "<", big=False, first=struct.unpack_from("<I", data, 4)[0])
    directory = {tag.number: tag for tag in tags.directory()}
    if not {_RW2_HEIGHT, _RW2_WIDTH, _RW2_JPEG} <= directory.keys():
        return None, 0
    jpeg = directory[_RW2_JPEG]
    (start,) = struct.unpack("<I", jpeg.entry[-4:])
    orientation = tags.integers(directory[_ORIENTATION])[0] if _ORIENTATION in directory else 1
    sensor = max(tags.integers(directory[_RW2_HEIGHT])[0], tags.integers(directory[_RW2_WIDTH])[0])
    return Preview(start, start + jpeg.count, orientation if 1 <= orientation <= 8 else 1), sensor


def _of_cr3(data: File) -> tuple[Preview | None, int]:
    with memoryview(data) as view:
        movie = next((body for kind, body in boxes(view) if kind == b"moov"), view[:0])
        orientation, sensor, found = 1, 0, None
        for kind, body in boxes(movie):
            if kind == b"uuid":
                facts = next((bytes(part) for name, part in boxes(body[16:]) if name == b"CMT1"), b"")
                orientation = exif_orientation(facts) if facts else orientation
            elif kind == b"trak":
                start, size, longer = _of_track(body)
                sensor = max(sensor, longer)
                if found is None and bytes(view[start : start + 2]) == b"\xff\xd8":
                    found = start, start + size
        del movie
    return (Preview(*found, orientation) if found else None), sensor


def _of_track(track: memoryview) -> tuple[int, int, int]:
    """Return where the first sample of a track lies, its size, and the longer side of its picture."""
    parts = dict(_leaves(track))
    start = size = longer = 0
    if b"co64" in parts:
        (start,) = struct.unpack_from(">Q", parts[b"co64"], 8)
    elif b"stco" in parts:
        (start,) = struct.unpack_from(">I", parts[b"stco"], 8)
    if b"stsz" in parts:
        (size,) = struct.unpack_from(">I", parts[b"stsz"], 4)
        size = size or struct.unpack_from(">I", parts[b"stsz"], 12)[0]
    if b"stsd" in parts:
        longer = max(struct.unpack_from(">HH", parts[b"stsd"], _CRAW_WIDTH))
    return start, size, longer


def _leaves(box: memoryview, within: Sequence[bytes] = (b"mdia", b"minf", b"stbl")) -> Iterator[tuple[bytes, bytes]]:
    for kind, body in boxes(box):
        if kind in within[:1]:
            yield from _leaves(body, within[1:])
        else:
            yield kind, bytes(body[:4096])
