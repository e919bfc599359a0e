"""The pages of a TIFF file: its full pictures, without the smaller copies, masks and thumbnails of these.

Source of the layout: TIFF Revision 6.0 (1992), part 1 and section 12 (NewSubfileType), and the tag SubfileType of 5.0.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from shared.images.contract import File
from shared.images.header import Header, no_such_page, too_complex, truncated
from shared.images.tags import MAX_TAGS, Tags
from shared.images.tiff import read_tiff

_NEW_SUBFILE, _SUBFILE, _WIDTH, _HEIGHT, _TILE_WIDTH = 254, 255, 256, 257, 322
_REDUCED_OR_MASK = 1 | 4  # bits of NewSubfileType
_REDUCED = 2  # of SubfileType
_THUMBNAIL = 256  # pixels of the longer side
_MUCH_LARGER = 4
_MAX_DIRECTORIES = 65_536
_MAX_TAGS_IN_ALL = 1_000_000


@dataclass(frozen=True)
class _Directory:
    """What tells a page from a copy of one."""

    tags: Tags
    width: int
    height: int
    is_full: bool | None  # what it says of itself, if anything
    tiled: bool


def tiff_page(data: File, page: int) -> Header:
    """The header of a page of a TIFF file; the first one is its first picture, whatever it says of itself.

    Raises:
        ImageRefused: there is no such page; or it is of a variant that is not taken, truncated, or contradicts itself.
        struct.error: it ends inside its directory.
    """
    tags = Tags.of(data)
    if tags is None:
        raise truncated("tiff", "inside its header")
    pages = _pages(tags)
    if page > len(pages):
        raise no_such_page("tiff", page, len(pages))
    return replace(read_tiff(pages[page - 1]), pages=len(pages))


def _pages(tags: Tags) -> list[Tags]:
    """The directories of the pages. A chain of directories that breaks off ends there."""
    pages = [tags]
    first: _Directory | None = None
    for directory in _directories(tags):
        if first is None:
            first = directory
        elif directory.is_full or (directory.is_full is None and not _is_copy(directory, first)):
            pages.append(directory.tags)
    return pages


def _is_copy(directory: _Directory, first: _Directory) -> bool:
    """Whether a picture that does not say so is a smaller copy of the first: of its shape, and a thumbnail or level."""
    skew = abs(directory.width * first.height - first.width * directory.height)
    if skew > max(first.width, first.height) or 2 * directory.width > first.width + 1:
        return False
    small = max(directory.width, directory.height)
    return first.tiled or (small <= _THUMBNAIL and max(first.width, first.height) >= _MUCH_LARGER * small)


def _directories(tags: Tags) -> Iterator[_Directory]:
    seen, read = set[int](), 0
    try:
        while tags.first and tags.first not in seen:
            seen.add(tags.first)
            if (count := tags.entries()) > MAX_TAGS:
                return
            read += count
            if len(seen) > _MAX_DIRECTORIES or read > _MAX_TAGS_IN_ALL:
                raise too_complex("tiff", f"more than {len(seen) - 1} directories")
            directory = _directory(tags)
            if directory is not None:
                yield directory
            tags = replace(tags, first=tags.following())
    except struct.error:
        return


def _directory(tags: Tags) -> _Directory | None:
    """A directory as it is; None if it holds no picture."""
    numbers: dict[int, int] = {}
    for tag in tags.directory():
        if tag.number in {_NEW_SUBFILE, _SUBFILE, _WIDTH, _HEIGHT, _TILE_WIDTH} and tag.count == 1:
            numbers.setdefault(tag.number, tags.integers(tag)[0])
    if not numbers.get(_WIDTH) or not numbers.get(_HEIGHT):
        return None
    is_full = None
    if _NEW_SUBFILE in numbers:
        # 0 is also what those write who do not think of it: then its size decides.
        is_full = False if numbers[_NEW_SUBFILE] & _REDUCED_OR_MASK else None
    if _SUBFILE in numbers and is_full is None:
        is_full = False if numbers[_SUBFILE] == _REDUCED else None
    if numbers.get(_NEW_SUBFILE, 0) == 2 or numbers.get(_SUBFILE) == 3:  # "a page of several"
        is_full = True
    return _Directory(tags, numbers[_WIDTH], numbers[_HEIGHT], is_full, _TILE_WIDTH in numbers)
