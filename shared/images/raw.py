"""Camera RAW files: told from other TIFFs, and taken from the full-size preview that most cameras put in.

Sources of the layouts: TIFF/EP (ISO 12234-2), the DNG specification 1.7, and what cameras write.
"""

import struct
from collections.abc import Iterator

from shared.images.contract import File, ImageRefused
from shared.images.tags import Tag, Tags

_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 259, 262
_STRIPS, _COUNTS, _SUB_IFDS, _JPEG_AT, _JPEG_SIZE, _DNG_VERSION = 273, 279, 330, 513, 514, 50706
_MOSAIC, _LINEAR_RAW = 32_803, 34_892
_CODINGS = frozenset({32_767, 32_769, 32_770, 34_713, 65_000, 65_535})  # of Sony, Samsung, Nikon, Kodak, Pentax
_JPEGS = frozenset({6, 7})
_MOST_DIRECTORIES = 64
FULL_SIZE = 0.8  # of the sensor's longer side: what cameras and converters call full size

# First bytes of RAW files that are not taken.
KINDS = (
    (b"IIRO", "an Olympus RAW file (ORF)"),
    (b"IIRS", "an Olympus RAW file (ORF)"),
    (b"MMOR", "an Olympus RAW file (ORF)"),
    (b"FOVb", "a Sigma RAW file (X3F)"),
    (b"\0MRM", "a Minolta RAW file (MRW)"),
    (b"II\x1a\0\0\0HEAPCCDR", "a Canon RAW file (CRW)"),
)

Directory = dict[int, Tag]


def directories(tags: Tags) -> Iterator[Directory]:
    """The directories of a TIFF that can be read: the chain of pages, and what hangs below each."""
    waiting, seen = [tags.first], set[int]()
    while waiting and len(seen) < _MOST_DIRECTORIES:
        at = waiting.pop(0)
        if not at or at in seen:
            continue
        seen.add(at)
        block = Tags(tags.data, tags.order, big=tags.big, first=at)
        try:
            directory = {tag.number: tag for tag in block.directory()}
            if _SUB_IFDS in directory:
                waiting += block.integers(directory[_SUB_IFDS])[:_MOST_DIRECTORIES]
            waiting.append(block.following())
        except struct.error:
            continue
        yield directory


def is_raw(tags: Tags, first: Directory) -> bool:
    """Whether a TIFF is a camera's RAW file: it says so, or one of its pictures is what a sensor gives."""
    if _DNG_VERSION in first or tags.data[8:10] == b"CR":
        return True
    return any(_is_sensor_data(tags, directory) for directory in directories(tags))


def full_size_preview(tags: Tags) -> tuple[int, int]:
    """Where the full-size JPEG of a RAW file lies: start and end.

    Raises:
        ImageRefused: there is none, only smaller ones.
    """
    sensor, best, place = 0, 0, (0, 0)
    for directory in directories(tags):
        longer = max(_one(tags, directory, _WIDTH), _one(tags, directory, _HEIGHT))
        if _is_sensor_data(tags, directory):
            sensor = max(sensor, longer)
            continue
        found = _jpeg(tags, directory)
        size = max(jpeg_size(tags.data[slice(*found)])) if found else 0
        if found and size > best:
            best, place = size, found
    if not best or best < FULL_SIZE * sensor or not sensor:
        raise no_full_size("a camera RAW file")
    return place


def no_full_size(kind: str) -> ImageRefused:
    """What is raised of a RAW file that has smaller previews alone, or none."""
    msg = f"this is {kind} without a preview of full size, which is not developed here: export it as JPEG or TIFF"
    return ImageRefused("format", msg)


def _is_sensor_data(tags: Tags, directory: Directory) -> bool:
    return (
        _one(tags, directory, _PHOTOMETRIC) in {_MOSAIC, _LINEAR_RAW}
        or _one(tags, directory, _COMPRESSION) in _CODINGS
        or (tags.data[8:10] == b"CR" and 50_752 in directory)  # Canon's slices
    )


def _one(tags: Tags, directory: Directory, number: int) -> int:
    try:
        return next(iter(tags.integers(directory[number])), 0) if number in directory else 0
    except struct.error:
        return 0


def _jpeg(tags: Tags, directory: Directory) -> tuple[int, int] | None:
    at, size = _one(tags, directory, _JPEG_AT), _one(tags, directory, _JPEG_SIZE)
    if not at and _one(tags, directory, _COMPRESSION) in _JPEGS and _STRIPS in directory:
        if directory[_STRIPS].count != 1:
            return None
        at, size = _one(tags, directory, _STRIPS), _one(tags, directory, _COUNTS)
    sound = at and size and at + size <= len(tags.data) and tags.data[at : at + 3] == b"\xff\xd8\xff"
    return (at, at + size) if sound else None


def jpeg_size(data: File) -> tuple[int, int]:
    """Width and height of a JPEG that can be decoded; (0, 0) of another, such as a sensor's lossless one."""
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in {0xC0, 0xC1, 0xC2}:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        if marker in {0xDA, 0xD9} or (0xC3 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}):
            break
        position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
    return 0, 0
