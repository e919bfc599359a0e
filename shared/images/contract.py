"""What callers see of an image: its facts, the limits it must keep, and the refusal that names why it was not taken."""

from dataclasses import dataclass

MIB = 1 << 20
MEDIA_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
}
REASONS = frozenset(
    {
        "empty",  # no bytes at all
        "not-an-image",  # text, an error page, an archive, noise
        "format",  # a picture or document of a kind that is not taken, whatever its file is named
        "corrupt",  # the right format, but its content contradicts itself or cannot be decoded
        "truncated",  # the file ends before its picture does
        "too-many-pixels",  # decoding would take more pixels or memory than the limits allow
        "too-large",  # more bytes than the limits allow
        "too-small",  # no pixels: a width or height of zero
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
    """What an image is: its format, media type, and size in pixels as it is to be seen (EXIF orientation applied)."""

    format: str
    media_type: str
    width: int
    height: int


@dataclass(frozen=True)
class Limits:
    """What an image may cost.

    Attributes:
        max_bytes: the most bytes of the file.
        max_pixels: the most pixels, width times height.
        max_side: the most pixels of either side.
        max_memory: the most bytes that the file and its decoder may take together. It is what keeps a process small: a
            pixel costs 4 bytes in an RGB PNG, 16 in a WebP, 3 to 8 in a progressive JPEG, next to none in a baseline.
    """

    max_bytes: int = 64 * MIB
    max_pixels: int = 50_000_000
    max_side: int = 30_000
    max_memory: int = 240 * MIB


DEFAULT_LIMITS = Limits()
