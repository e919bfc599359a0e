"""An image as its file's header describes it, and the refusals of headers that do not hold together."""

from dataclasses import dataclass

from shared.images.contract import ImageRefused
from shared.images.splicing import Part


@dataclass(frozen=True)
class Header:
    """An image as its file describes it.

    Attributes:
        format: a key of `MEDIA_TYPES`.
        width, height: pixels as stored, before the orientation.
        parts: what a decoder is to see of the file.
        pixel_bytes: memory that a decoder takes per stored pixel, in bytes; it falls with the square of a JPEG's scale.
        fixed_bytes: memory that a decoder takes besides, in bytes.
        orientation: EXIF orientation, 1 to 8.
        profile: the ICC colour profile of a CMYK picture.
        inverted: whether high values are dark, where Pillow does not see to it.
    """

    format: str
    width: int
    height: int
    parts: tuple[Part, ...]
    pixel_bytes: int
    fixed_bytes: int = 0
    orientation: int = 1
    profile: bytes | None = None
    inverted: bool = False


def corrupt(name: str, finding: str) -> ImageRefused:
    """The refusal of a file that contradicts itself."""
    return ImageRefused("corrupt", f"the {name.upper()} file is damaged: {finding}; export or fetch it again")


def truncated(name: str, where: str) -> ImageRefused:
    """The refusal of a file that ends too early."""
    return ImageRefused("truncated", f"the {name.upper()} file ends {where}: it was cut short; copy or fetch it again")
