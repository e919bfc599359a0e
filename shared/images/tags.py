"""Reads TIFF directories (the tags of a TIFF file and of an EXIF block), with bounds on what they may claim.

Source of the layout: TIFF Revision 6.0 (1992), section 2; BigTIFF widens its counts and offsets to 8 bytes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from shared.images.contract import File

_ORIENTATION = 274
MAX_TAGS = 4096
"""Entries of a directory that are read; cameras write under a hundred."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}


@dataclass(frozen=True)
class Tag:
    """One entry of a directory: its number, value type, count of values, and the entry's own bytes."""

    number: int
    type: int
    count: int
    entry: bytes


@dataclass(frozen=True)
class Tags:
    """A TIFF-like block: byte order ("<" or ">"), whether it is a BigTIFF, and the first directory's offset."""

    data: File
    order: str
    big: bool
    first: int

    @classmethod
    def of(cls, data: File) -> "Tags | None":
        """The block's header, or None where there is none."""
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        if order is None or len(data) < 8:
            return None
        magic = struct.unpack_from(order + "H", data, 2)[0]
        if magic == 42:
            return cls(data, order, big=False, first=struct.unpack_from(order + "I", data, 4)[0])
        if magic == 43 and len(data) >= 16:
            return cls(data, order, big=True, first=struct.unpack_from(order + "Q", data, 8)[0])
        return None

    def entries(self) -> int:
        """How many entries the first directory claims.

        Raises:
            struct.error: the directory lies past the end of the data.
        """
        (entries,) = struct.unpack_from(self.order + ("Q" if self.big else "H"), self.data, self.first)
        return int(entries)

    def directory(self) -> Iterator[Tag]:
        """The entries of the first directory.

        Raises:
            struct.error: the directory reaches past the end of the data, or has more than `MAX_TAGS` entries.
        """
        head, layout = ("Q", "HHQ8s") if self.big else ("H", "HHI4s")
        entries = self.entries()
        if entries > MAX_TAGS:
            msg = f"a directory of {entries} entries, of which at most {MAX_TAGS} are read"
            raise struct.error(msg)
        width = struct.calcsize("=" + layout)
        start = self.first + struct.calcsize("=" + head)
        for position in range(start, start + width * entries, width):
            number, kind, count, _ = struct.unpack_from(self.order + layout, self.data, position)
            yield Tag(number, kind, count, self.data[position : position + width])

    def following(self) -> int:
        """The offset of the directory after this one; 0: there is none.

        Raises:
            struct.error: the directory reaches past the end of the data.
        """
        end = self.first + (8 + 20 * self.entries() if self.big else 2 + 12 * self.entries())
        return int(struct.unpack_from(self.order + ("Q" if self.big else "I"), self.data, end)[0])

    def raw(self, tag: Tag) -> bytes:
        """The value's bytes.

        Raises:
            struct.error: the value reaches past the end of the data, or has an unknown type.
        """
        if tag.type not in _SIZES:
            msg = f"tag {tag.number} has the unknown type {tag.type}"
            raise struct.error(msg)
        size = tag.count * _SIZES[tag.type]
        inline = tag.entry[-8:] if self.big else tag.entry[-4:]
        if size <= len(inline):
            return inline[:size]
        (offset,) = struct.unpack(self.order + ("Q" if self.big else "I"), inline)
        if offset + size > len(self.data):
            msg = f"the value of tag {tag.number} ends at {offset + size}, past the end at {len(self.data)}"
            raise struct.error(msg)
        return self.data[offset : offset + size]

    def integers(self, tag: Tag) -> tuple[int, ...]:
        """The values of an integer tag.

        Raises:
            struct.error: as `raw`, or the type is no unsigned integer.
        """
        if tag.type not in _INTEGERS:
            msg = f"tag {tag.number} has type {tag.type}, expected an unsigned integer"
            raise struct.error(msg)
        return struct.unpack(f"{self.order}{tag.count}{_INTEGERS[tag.type]}", self.raw(tag))


def exif_orientation(block: bytes) -> int:
    """The orientation, 1 to 8, in an EXIF block (without its "Exif" prefix); 1 where it is absent or broken."""
    tags = Tags.of(block)
    if tags is None:
        return 1
    try:
        for tag in tags.directory():
            if tag.number == _ORIENTATION and tag.count == 1:
                (value,) = tags.integers(tag)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
