"""Finds the EXIF block in HEIC and AVIF files.

Source of the layout: ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12, annex A (the item "Exif").
"""

import struct

from shared.images.boxes import boxes

_MAX_ITEMS = 4096
_MAX_EXTENTS = 1024  # of an item; usual is one
_MAX_BLOCK = 8 * 2**20  # bytes


def exif_of(data: bytes) -> bytes:
    """Return the EXIF block of a file, from the header of its TIFF on; empty if it has none that can be read."""
    try:
        meta = next((body for kind, body in boxes(memoryview(data)) if kind == b"meta"), None)
        parts_of = {} if meta is None else dict(boxes(meta[4:]))
        item = _exif_item(parts_of.get(b"iinf"))
        if item is None:
            return b""
        in_idat, parts = _extents(parts_of[b"iloc"], item)
        source = parts_of[b"idat"] if in_idat else memoryview(data)
        if sum(size for _, size in parts) > _MAX_BLOCK:
            return b""
        block = b"".join(source[start : start + size] for start, size in parts)
        (before,) = struct.unpack_from(">I", block)
        return block[4 + before :]
    except (struct.error, KeyError, IndexError):
        return b""


def _exif_item(infos: memoryview | None) -> int | None:
    """Return the number of the item that holds EXIF, by the box that lists all items."""
    if infos is None:
        return None
    for kind, body in boxes(infos[6 if infos[0] == 0 else 8 :]):
        wide = body[0] == 3
        if kind == b"infe" and body[0] in {2, 3} and bytes(body[8 + 2 * wide : 12 + 2 * wide]) == b"Exif":
            return int(struct.unpack_from(">I" if wide else ">H", body, 4)[0])
    return None


def _extents(places: memoryview, wanted: int) -> tuple[bool, list[tuple[int, int]]]:
    """Return where an item lies, as offsets and sizes; and whether in a box of the head instead of in the file.

    Raises:
        KeyError: It lies nowhere that is read, or in more pieces than that.
        struct.error: The box ends too early.
    """
    version = places[0]
    offset_size, length_size = places[4] >> 4, places[4] & 15
    base_size, index_size = places[5] >> 4, places[5] & 15 if version else 0
    position, wide = 6, 4 if version == 2 else 2

    def number(size: int) -> int:
        nonlocal position
        if position + size > len(places):
            raise struct.error("a box ends too early")
        position += size
        return int.from_bytes(places[position - size : position], "big")

    for _ in range(min(number(wide), _MAX_ITEMS)):
        item = number(wide)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        count = number(2)
        if item != wanted or method not in {0, 1}:
            position += count * (index_size + offset_size + length_size)
        elif not length_size or count > _MAX_EXTENTS:
            break
        else:
            parts = []
            for _ in range(count):
                number(index_size)
                parts.append((base + number(offset_size), number(length_size)))
            return method == 1, parts
    raise KeyError(wanted)
