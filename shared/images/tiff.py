"""Reads a TIFF's first directory, checks that its strips or tiles lie within the file, and keeps what makes pixels.

Source of the layout: TIFF Revision 6.0 (1992), part 1 and sections 14 to 22.
"""

import struct
from dataclasses import dataclass

from shared.images.contract import ImageRefused
from shared.images.header import Header, corrupt, truncated
from shared.images.splicing import Part
from shared.images.tags import Tag, Tags

_MAX_VALUES = 131_072  # of one tag; 30,000 rows in one-row strips on four planes have 120,000 strips

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS, _PLANAR = 273, 274, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _PROFILE = 322, 323, 324, 325, 34675
# What makes the picture: sizes, sample layout, compression and its tables, strips and tiles, palette.
_NEEDED = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS}
    | {_PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, 266, 292, 293, 317, 320, 332, 338, 339, 347}
    | {512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532}
)
_RAW, _OLD_JPEG = 1, 6
# None, CCITT, LZW, JPEG old and new, deflate, PackBits, LZMA, Zstandard: what Pillow's libtiff reads.
_COMPRESSIONS = frozenset({_RAW, 2, 3, 4, 5, _OLD_JPEG, 7, 8, 32771, 32773, 32946, 34925, 50000})
_WHITE_IS_ZERO, _CMYK, _YCBCR = 0, 5, 6


@dataclass(frozen=True)
class _Picture:
    """A TIFF's first directory as numbers."""

    tags: Tags
    directory: dict[int, Tag]

    def all(self, number: int) -> tuple[int, ...]:
        """The values of an integer tag, none where it is absent."""
        return self.tags.integers(self.directory[number]) if number in self.directory else ()

    def one(self, number: int, default: int) -> int:
        """The first value of an integer tag."""
        return next(iter(self.all(number)), default)

    @property
    def bits(self) -> int:
        return max(self.all(_BITS), default=1)


def read_tiff(data: bytes) -> Header:
    """The header of a TIFF file.

    Raises:
        ImageRefused: it is of a variant that is not taken, truncated, or contradicts itself.
        struct.error: it ends inside its directory.
    """
    tags = Tags.of(data)
    if tags is None:
        raise truncated("tiff", "inside its header")
    directory: dict[int, Tag] = {}
    for tag in tags.directory():
        directory.setdefault(tag.number, tag)
    kept = {number: tag for number, tag in directory.items() if number in _NEEDED}
    for tag in kept.values():
        if tag.count > _MAX_VALUES:
            raise corrupt("tiff", f"its tag {tag.number} claims {tag.count} values")
    if _WIDTH not in kept or _HEIGHT not in kept:
        raise corrupt("tiff", "it does not say how large its picture is")
    picture = _Picture(tags, directory)
    width, height = picture.one(_WIDTH, 0), picture.one(_HEIGHT, 0)
    samples, photometric = picture.one(_SAMPLES, 1), picture.one(_PHOTOMETRIC, 0)
    if not 1 <= samples <= 6 or not 1 <= picture.bits <= 64:
        msg = f"this TIFF has {samples} samples of {picture.bits} bits per pixel, not taken: save it as 8-bit RGB"
        raise ImageRefused("format", msg)
    if picture.one(_COMPRESSION, _RAW) not in _COMPRESSIONS:
        msg = f"this TIFF has compression {picture.one(_COMPRESSION, _RAW)}, not taken: save it with LZW or deflate"
        raise ImageRefused("format", msg)
    block = _block(picture, width, height) if width and height else 0
    orientation = picture.one(_ORIENTATION, 1)
    profile = directory.get(_PROFILE) if photometric == _CMYK else None
    return Header(
        "tiff",
        width,
        height,
        _parts(tags, kept),
        pixel_bytes=(picture.bits + 7) // 8 if samples == 1 and photometric != _YCBCR else 4,
        # The decoder gets a copy of the file, and holds one strip or tile beside the picture.
        fixed_bytes=len(data) + block * (32 if photometric == _YCBCR else samples * picture.bits) // 8,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        profile=tags.raw(profile) if profile is not None and profile.count <= len(data) else None,
        inverted=photometric == _WHITE_IS_ZERO and picture.bits > 8,
    )


def _block(picture: _Picture, width: int, height: int) -> int:
    """The pixels of the largest strip or tile.

    Raises:
        ImageRefused: strips or tiles are missing, or lie past the end of the file.
    """
    strips = _STRIP_OFFSETS in picture.directory
    if strips:
        across, down = width, min(picture.one(_ROWS_PER_STRIP, height), height)
        offsets, counts = picture.all(_STRIP_OFFSETS), picture.all(_STRIP_COUNTS)
    else:
        across, down = picture.one(_TILE_WIDTH, 0), picture.one(_TILE_HEIGHT, 0)
        offsets, counts = picture.all(_TILE_OFFSETS), picture.all(_TILE_COUNTS)
    if not across or not down:
        raise corrupt("tiff", f"its strips or tiles are {across} x {down} pixels")
    samples = picture.one(_SAMPLES, 1)
    planes = samples if picture.one(_PLANAR, 1) == 2 else 1
    rows = -(-height // down)
    needed = -(-width // across) * rows * planes
    if len(offsets) < needed:
        raise corrupt("tiff", f"it names {len(offsets)} strips or tiles where {needed} are needed")
    if picture.one(_COMPRESSION, _RAW) == _RAW and picture.one(_PHOTOMETRIC, 0) != _YCBCR:
        # Old writers left the counts unset or wrong where they can be computed.
        line = -(-across * picture.bits * (samples // planes) // 8)
        last = height - (rows - 1) * down if strips else down
        counts = tuple(line * (last if index % rows == rows - 1 else down) for index in range(len(offsets)))
    elif picture.one(_COMPRESSION, _RAW) == _OLD_JPEG:
        counts = (0,) * len(offsets)
    if any(offset + count > len(picture.tags.data) for offset, count in zip(offsets, counts, strict=False)):
        raise truncated("tiff", "before its picture does")
    return across * down


def _parts(tags: Tags, kept: dict[int, Tag]) -> tuple[Part, ...]:
    """The file with a new directory, at its end, of the needed tags alone; what they point to stays in its place."""
    end = len(tags.data)
    padding = bytes(-end % 8)
    entries = b"".join(tag.entry for _, tag in sorted(kept.items()))
    if tags.big:
        head = tags.data[:8] + struct.pack(tags.order + "Q", end + len(padding))
        count, last = struct.pack(tags.order + "Q", len(kept)), bytes(8)
    else:
        head = tags.data[:4] + struct.pack(tags.order + "I", end + len(padding))
        count, last = struct.pack(tags.order + "H", len(kept)), bytes(4)
    return head, (len(head), end), padding + count + entries + last
