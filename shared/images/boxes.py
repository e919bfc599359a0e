"""Boxes of ISO base media files, such as HEIC, AVIF and CR3. Source of the layout: ISO/IEC 14496-12, section 4.2."""

import struct
from collections.abc import Iterator

_MAX_BOXES = 4096


def boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and body of consecutive boxes, until one is malformed."""
    position = 0
    for _ in range(_MAX_BOXES):
        if position + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1:
            if position + 16 > len(data):
                return
            (size,), head = struct.unpack_from(">Q", data, position + 8), 16
        end = position + size if size else len(data)
        if end < position + head:
            return
        yield kind, data[position + head : end]
        position = end
