"""An image as its file's header describes it, and the refusals of headers that do not hold together."""

from dataclasses import dataclass

from shared.images.contract import Flag, ImageRefused
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
        profile: the ICC colour profile, where it is no sRGB.
        passes: times that a decoder goes over the whole picture.
        streams: whether libvips decodes it row by row; `pixel_bytes` then counts for Pillow alone.
        vips: whether Pillow does not read it, or not rightly: samples of more than 8 bits, for example.
        alpha: whether the samples beyond the colours are transparency; None: the decoder knows.
        no_data: the value of a number that stands for no measurement.
        complete: whether the end of the file is there; if not, its samples tell whether any are lacking.
        flags: what is wrong with it though it is taken.
        pages: those of the file, this one included.
        coarsest: the coarsest scale that its decoder may have, of 1/2, 1/4 and 1/8.
    """

    format: str
    width: int
    height: int
    parts: tuple[Part, ...]
    pixel_bytes: int
    fixed_bytes: int = 0
    orientation: int = 1
    profile: bytes | None = None
    passes: int = 1
    streams: bool = False
    vips: bool = False
    alpha: bool | None = None
    no_data: float | None = None
    complete: bool = True
    flags: tuple[Flag, ...] = ()
    pages: int = 1
    coarsest: int = 8

    @property
    def coding(self) -> str:
        """The format of the picture within the file: a camera's RAW file is taken from a JPEG in it."""
        return "jpeg" if self.format == "raw" else self.format


def corrupt(name: str, finding: str) -> ImageRefused:
    """The refusal of a file that contradicts itself."""
    return ImageRefused("corrupt", f"the {name.upper()} file is damaged: {finding}; export or fetch it again")


def no_such_page(name: str, page: int, pages: int) -> ImageRefused:
    """The refusal of a page that a document does not have."""
    return ImageRefused("too-many-pages", f"the {name.upper()} file has {pages} pages, and no page {page}")


def too_complex(name: str, finding: str) -> ImageRefused:
    """The refusal of a file that asks for more work than any honest picture needs."""
    return ImageRefused("too-complex", f"the {name.upper()} file has {finding}: save it again with another program")


def not_read(name: str, variant: str) -> ImageRefused:
    """The refusal of a sound file of a variant that no decoder here reads."""
    return ImageRefused("format", f"this {name.upper()} has {variant}, which is not read: save it as 8-bit RGB")


def truncated(name: str, where: str) -> ImageRefused:
    """The refusal of a file that ends too early."""
    return ImageRefused("truncated", f"the {name.upper()} file ends {where}: it was cut short; copy or fetch it again")
