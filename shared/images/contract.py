"""What callers see of an image: its facts, the limits it must keep, and the refusal that names why it was not taken."""

import mmap
from dataclasses import dataclass
from typing import Literal

MIB = 1 << 20
File = bytes | mmap.mmap
"""A file: its bytes, or those of one that is too large to be in memory."""
_PASSES = 20  # over the largest picture; the usual progressive JPEG has 10
MEDIA_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "avif": "image/avif",
    "heic": "image/heic",
    "jp2": "image/jp2",
    "raw": "image/x-raw",
    "pdf": "application/pdf",
}
Flag = Literal["damaged"]
FLAGS: frozenset[str] = frozenset({"damaged"})  # a part of the file was lost: some of its pixels are wrong
REASONS = frozenset(
    {
        "empty",  # no bytes at all
        "not-an-image",  # text, an error page, an archive, noise
        "format",  # a picture or document of a kind that is not taken, whatever its file is named
        "corrupt",  # the right format, but its content contradicts itself or cannot be decoded
        "truncated",  # the file ends before its picture does
        "too-many-pixels",  # decoding would take more pixels or memory than the limits allow
        "too-large",  # more bytes than the limits allow
        "too-many-pages",  # a document of more pages than the limits allow, or one that has no such page
        "too-small",  # no pixels: a width or height of zero
        "too-complex",  # decoding would take, or took, more work than the limits allow
        "decoder-died",  # the decoder stopped working on it, for no reason that the limits explain
    }
)


class ImageRefused(ValueError):
    """An image that is not taken.

    Attributes:
        reason: a stable code out of `REASONS`, for programs.
        message: a sentence naming what was found and the remedy, for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        if reason not in REASONS:
            msg = f"unknown refusal reason {reason!r}: expected one of {sorted(REASONS)}"
            raise TypeError(msg)
        super().__init__(reason, message)  # both in args, so that the refusal survives pickling
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class ImageInfo:
    """What an image is: its format, media type, and size in pixels as it is to be seen (EXIF orientation applied).

    `flags` say what is wrong with it though it is taken. `pages` are those of the file: of each, a picture can be made.
    """

    format: str
    media_type: str
    width: int
    height: int
    flags: tuple[Flag, ...] = ()
    pages: int = 1


@dataclass(frozen=True)
class Limits:
    """What an image may cost.

    Attributes:
        max_bytes: the most bytes of the file.
        max_pixels: the most pixels, width times height.
        max_side: the most pixels of either side.
        max_memory: the most bytes that the file and its decoder may take together. It is what keeps a process small: a
            pixel costs 16 bytes in a WebP, 9 in an AVIF, 3 to 8 in a progressive JPEG, next to none in what is decoded
            row by row: TIFF, PNG, a baseline JPEG.
        max_pages: the most pages of a document.
    """

    max_bytes: int = 2048 * MIB
    max_pixels: int = 1_000_000_000
    max_side: int = 500_000
    max_memory: int = 512 * MIB
    max_pages: int = 500

    @property
    def max_passes(self) -> int:
        """The most pixels that a decoder may go over in all its passes, such as the scans of a progressive JPEG."""
        return _PASSES * self.max_pixels

    def check_bytes(self, size: int) -> None:
        """Refuse a file that is too large.

        Raises:
            ImageRefused: `too-large`.
        """
        if size > self.max_bytes:
            msg = (
                f"the file has {size} bytes, at most {self.max_bytes} are taken: save it smaller or compressed, "
                "or raise ARTSEEK_MAX_FILE_BYTES"
            )
            raise ImageRefused("too-large", msg)


DEFAULT_LIMITS = Limits()
