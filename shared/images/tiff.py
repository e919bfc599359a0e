"""Reads a TIFF's first directory, checks that its strips or tiles lie within the file, and keeps what makes pixels.

Source of the layout: TIFF Revision 6.0 (1992), part 1 and sections 14 to 22.
"""

import struct
from dataclasses import dataclass

from shared.images import profiles, raw
from shared.images.contract import File
from shared.images.damage import any_has_hole, ends_in_zeros
from shared.images.header import Header, corrupt, not_read, too_complex, truncated
from shared.images.splicing import Part
from shared.images.tags import MAX_TAGS, Tag, Tags

_MAX_SAMPLES = 16
_ROWS, _LITTLE = 512, 1 << 16  # of a streamed picture: rows that are held at a time, and bytes of what is small
_MAX_VALUES = 262_144  # of one tag; a palette of 16 bits has 196,608

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS, _PLANAR = 273, 274, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _PROFILE = 322, 323, 324, 325, 338, 34675
_NO_DATA = 42113  # of GDAL: a number as text
# What makes the picture: sizes, sample layout, compression and its tables, strips and tiles, palette.
_NEEDED = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS}
    | {_PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, 266, 292, 293, 317, 320, 332, 338, 339, 347}
    | {512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532}
)
_RAW, _OLD_JPEG = 1, 6
# None, CCITT, LZW, JPEG old and new, deflate, PackBits, LZMA, Zstandard, WebP: what libtiff reads.
_COMPRESSIONS = frozenset({_RAW, 2, 3, 4, 5, _OLD_JPEG, 7, 8, 32771, 32773, 32946, 34925, 50000, 50001})
_PILLOW_ALONE = frozenset({34925, 50000, _OLD_JPEG})  # the libvips of PyPI lacks them, or decodes them wrongly
_NEW_JPEG, _PLANES = 7, 2
_FAX = frozenset({2, 3, 4})
_ZEROS_IN_SOUND = frozenset({7, 8, 32946, 34925, 50000, 50001})  # a single shade may be written as zeros
_PALETTE, _YCBCR, _LAB, _OTHER_LABS = 3, 6, 8, frozenset({9, 10})
_ALPHA = frozenset({1, 2})  # extra samples that are transparency


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
    def is_tiled(self) -> bool:
        return _TILE_WIDTH in self.directory

    @property
    def bits(self) -> int:
        return max(self.all(_BITS), default=1)


def read_tiff(tags: Tags) -> Header:
    """The header of a picture in a TIFF file, by its directory.

    Raises:
        ImageRefused: it is of a variant that is not taken, truncated, or contradicts itself.
        struct.error: it ends inside its directory.
    """
    data = tags.data
    directory: dict[int, Tag] = {}
    if (count := tags.entries()) > MAX_TAGS:
        raise too_complex("tiff", f"{count} tags, of which at most {MAX_TAGS} are taken")
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
    if not 1 <= samples <= _MAX_SAMPLES or not 1 <= picture.bits <= 64:
        raise not_read("tiff", f"{samples} samples of {picture.bits} bits per pixel")
    if picture.one(_COMPRESSION, _RAW) not in _COMPRESSIONS:
        raise not_read("tiff", f"the compression {picture.one(_COMPRESSION, _RAW)}")
    if photometric == _PALETTE and picture.bits > 8:
        raise not_read("tiff", f"a palette of {picture.bits} bits")
    if photometric in _OTHER_LABS:
        raise not_read("tiff", "the colours of ICC Lab or ITU Lab")
    if photometric == _YCBCR and picture.one(_PLANAR, 1) == _PLANES and picture.one(_COMPRESSION, _RAW) != _NEW_JPEG:
        raise not_read("tiff", "planes of luminance and chrominance")
    pixel_bits = 32 if photometric == _YCBCR else samples * picture.bits
    block = _block(picture, width, height) if width and height else 0
    orientation = picture.one(_ORIENTATION, 1)
    vips = not _is_taken_for_something_else(picture, picture.one(_COMPRESSION, _RAW), photometric)
    return Header(
        "tiff",
        width,
        height,
        _parts(tags, kept),
        pixel_bytes=(picture.bits + 7) // 8 if samples == 1 and photometric != _YCBCR else 4,
        # The decoder holds a strip or a row of tiles, and some rows.
        fixed_bytes=block * pixel_bits // 8 + (_ROWS * width * -(-pixel_bits // 8) + _LITTLE if vips else len(data)),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        profile=_profile(tags, directory),
        streams=vips,
        vips=vips,
        alpha=not _ALPHA.isdisjoint(picture.all(_EXTRA)) if _EXTRA in kept else None,
        no_data=_no_data(tags, directory),
        flags=("damaged",) if width and height and _is_damaged(picture, width) else (),
    )


def _is_taken_for_something_else(picture: _Picture, compression: int, photometric: int) -> bool:
    """Whether libvips does not decode a picture, or takes it for another one, which Pillow does not."""
    eight_bit_lab = photometric == _LAB and picture.bits == 8
    return compression in _PILLOW_ALONE or eight_bit_lab or _PHOTOMETRIC not in picture.directory


def raw_preview(data: File) -> tuple[int, int, int] | None:
    """Where the full-size JPEG of a camera's RAW file lies, and its orientation; None for any other TIFF.

    Raises:
        ImageRefused: it is a RAW file that has none.
    """
    tags = Tags.of(data)
    try:
        directory = {tag.number: tag for tag in tags.directory()} if tags else {}
    except struct.error:
        return None
    if tags is None or not raw.is_raw(tags, directory):
        return None
    orientation = _Picture(tags, directory).one(_ORIENTATION, 1)
    return *raw.full_size_preview(tags), orientation


def _profile(tags: Tags, directory: dict[int, Tag]) -> bytes | None:
    tag = directory.get(_PROFILE)
    try:
        return profiles.needed(tags.raw(tag)) if tag is not None and tag.count <= profiles.MAX_PROFILE else None
    except struct.error:
        return None


def _no_data(tags: Tags, directory: dict[int, Tag]) -> float | None:
    tag = directory.get(_NO_DATA)
    try:
        return float(tags.raw(tag).rstrip(b" \0")) if tag is not None and tag.count < 64 else None
    except (struct.error, ValueError):
        return None


def _is_damaged(picture: _Picture, width: int) -> bool:
    """Whether its samples hold zeros that no encoder wrote."""
    compression = picture.one(_COMPRESSION, _RAW)
    offsets, counts = picture.all(_STRIP_OFFSETS), picture.all(_STRIP_COUNTS)
    if compression in _ZEROS_IN_SOUND | _FAX or not offsets or len(counts) < len(offsets) or picture.is_tiled:
        return False
    data = picture.tags.data
    if compression != _RAW:
        return any_has_hole(data, ((at, at + size) for at, size in zip(offsets, counts, strict=False)))
    planes = picture.one(_SAMPLES, 1) if picture.one(_PLANAR, 1) == 2 else 1
    row = -(-width * picture.bits * (picture.one(_SAMPLES, 1) // planes) // 8)
    following = all(at + size == then for at, size, then in zip(offsets, counts, offsets[1:], strict=False))
    return following and ends_in_zeros(data, offsets[0], offsets[-1] + counts[-1], row)


def _block(picture: _Picture, width: int, height: int) -> int:
    """The pixels of the largest strip or tile.

    Raises:
        ImageRefused: strips or tiles are missing, or lie past the end of the file.
    """
    strips = not picture.is_tiled
    if strips:
        across, down = width, min(picture.one(_ROWS_PER_STRIP, height), height)
        offsets, counts = picture.all(_STRIP_OFFSETS), picture.all(_STRIP_COUNTS)
    else:
        across, down = picture.one(_TILE_WIDTH, 0), picture.one(_TILE_HEIGHT, 0)
        offsets = picture.all(_TILE_OFFSETS) or picture.all(_STRIP_OFFSETS)  # old writers used these for tiles, too
        counts = picture.all(_TILE_COUNTS) or picture.all(_STRIP_COUNTS)
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
    if strips and needed == 1 and planes == 1 and picture.one(_COMPRESSION, _RAW) == _RAW:
        return across  # libtiff reads a strip that is stored as it is in pieces, if it is the only one
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
