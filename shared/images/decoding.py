"""Opens an image within limits and decodes it to a small upright RGB picture, whatever its format and pixel type.

A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4 and 1/8 that leaves at least twice the wanted size; how the
rest is brought down says `shared.images.pixels`. A picture of moderate size therefore comes out exactly as Pillow's
`convert("RGB")`, `resize` and `crop` make it.

Colours: pictures with a colour profile other than sRGB (Display P3, ProPhoto, inks) are converted by it once they are
small. Inks without a usable profile go through Pillow's formula.
"""

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from pi_heif import HeifImageFile
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.images import pdf, pixels, profiles, streaming
from shared.images.contract import DEFAULT_LIMITS, MEDIA_TYPES, MIB, File, ImageInfo, ImageRefused, Limits
from shared.images.header import Header, not_read
from shared.images.library_headers import Jpeg2000, aligned
from shared.images.orientation import stored_part, upright
from shared.images.readers import read_header
from shared.images.regions import Rectangle
from shared.images.splicing import spliced

_MAX_ASPECT = 4  # beyond it, only the middle of the longer side is resized: the crop needs no more
_LARGE = 32 * MIB
_large_turn: contextlib.AbstractContextManager[object] = threading.Lock()
_IGNORE_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as `warnings` keeps a filter

_DECODERS: dict[str, Callable[[BinaryIO], ImageFile]] = {
    "jpeg": JpegImageFile,  # of a multi-picture JPEG (MPO) it reads the first
    "png": PngImageFile,
    "webp": WebPImageFile,
    "gif": GifImageFile,
    "tiff": TiffImageFile,
    "bmp": BmpImageFile,
    "jp2": Jpeg2000,
    "heic": HeifImageFile,
    "avif": AvifImageFile,
}
_SCALED = frozenset({"jpeg", "jp2", "pdf"})  # their decoders make them smaller by 2, 4 or 8
_UNREAD = re.compile(
    "unsupported|not supported|unimplemented|not implemented|has not been built in|sorry|"
    "not a whole number|out of range|invalid palette size|unknown pixel mode|decoder error",
    re.IGNORECASE,
)
_CUT_SHORT = re.compile("truncated|not enough|premature end of JPEG|end of file", re.IGNORECASE)


@dataclass(frozen=True)
class _Plan:
    """What to make of a picture, in stored orientation: which part of it, and the size of that afterwards.

    `is_detail` is set if more than the middle is left out: such a part is decoded as finely as memory allows.
    """

    box: Rectangle
    target: tuple[int, int]
    is_detail: bool = False


def identify(data: File, limits: Limits = DEFAULT_LIMITS, *, page: int = 1) -> ImageInfo:
    """The format and size of an image, from its header alone.

    Raises:
        ImageRefused: see `REASONS`. An image that passes may still turn out corrupt when it is decoded.
    """
    return _info(_admit(data, limits, page))


def decode(
    data: File, *, size: int, limits: Limits = DEFAULT_LIMITS, page: int = 1, part: Rectangle | None = None
) -> tuple[NDArray[np.uint8], ImageInfo]:
    """An image as the models take it.

    The shorter side is brought to `size` pixels and the longer to the nearest whole number that keeps the shape
    (beyond four times the shorter, only its middle is); then the middle square is cut out, rounding to the upper left.

    Args:
        data: the file.
        size: side of the square, in pixels.
        limits: what the image may cost.
        page: which page of a document.
        part: which part of the upright picture is to be taken as if it were the whole; None: all of it.

    Returns:
        uint8 [size, size, 3], RGB, C-contiguous; and what `identify` says.

    Raises:
        ImageRefused: see `REASONS`.
    """
    header = _admit(data, limits, page)
    whole = (0, 0, header.width, header.height)
    left, top, right, bottom = whole if part is None else stored_part(part, header)
    shorter = min(right - left, bottom - top)
    width, height = (min(side, _MAX_ASPECT * shorter) for side in (right - left, bottom - top))
    scale = size / shorter
    plan = _Plan(
        pixels.middle((left, top, right, bottom), width, height),
        (round(width * scale), round(height * scale)),
        is_detail=part is not None,
    )
    image, header = _picture(data, header, plan, limits)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    square = np.array(image.crop((left, top, left + size, top + size)), dtype=np.uint8, order="C")
    return square, _info(header)


def thumbnail(data: File, *, box: int, limits: Limits = DEFAULT_LIMITS, page: int = 1) -> bytes:
    """A JPEG of the whole image, upright and without metadata, at most `box` pixels on either side and never enlarged.

    Raises:
        ImageRefused: see `REASONS`.
    """
    return _jpeg(picture(data, shorter=box, longest=box, limits=limits, page=page)[0])


def picture(
    data: File, *, shorter: int, longest: int, limits: Limits = DEFAULT_LIMITS, page: int = 1
) -> tuple[Image.Image, ImageInfo]:
    """The whole image, RGB and upright, its sides so long at most; and what `identify` says.

    Raises:
        ImageRefused: see `REASONS`.
    """
    header = _admit(data, limits, page)
    width, height = header.width, header.height
    scale = min(1.0, shorter / min(width, height), longest / max(width, height))
    target = max(1, round(width * scale)), max(1, round(height * scale))
    image, header = _picture(data, header, _Plan((0, 0, width, height), target), limits)
    return image, _info(header)


def tile(data: File, *, part: Rectangle, shrink: int, limits: Limits = DEFAULT_LIMITS, page: int = 1) -> bytes:
    """A JPEG of a part of the upright image, at 1/`shrink` of its size, rounded up.

    Raises:
        ImageRefused: see `REASONS`.
    """
    header = _admit(data, limits, page)
    if header.coding == "jpeg" and not header.fixed_bytes:  # of one scan: row by row, so that none is too large
        header = replace(header, streams=True)
    box = stored_part(part, header)
    target = -((box[0] - box[2]) // shrink), -((box[1] - box[3]) // shrink)
    return _jpeg(_picture(data, header, _Plan(box, target, is_detail=True), limits)[0])


def grey(data: File, *, side: int, limits: Limits = DEFAULT_LIMITS, page: int = 1) -> NDArray[np.uint8]:
    """The whole image in shades of grey, upright and squeezed into a square: uint8 [side, side].

    Raises:
        ImageRefused: see `REASONS`.
    """
    header = _admit(data, limits, page)
    image, _ = _picture(data, header, _Plan((0, 0, header.width, header.height), (side, side)), limits)
    return np.asarray(image.convert("L"), dtype=np.uint8)


def shades(
    data: File, *, longest: int, limits: Limits = DEFAULT_LIMITS, page: int = 1, part: Rectangle | None = None
) -> tuple[NDArray[np.uint8], int, int]:
    """An image in shades of grey, upright, in its shape, and never enlarged.

    Args:
        data: the file.
        longest: pixels of the longer side, at most.
        limits: what the image may cost.
        page: which page of a document.
        part: which part of the upright picture is wanted; None: all of it.

    Returns:
        uint8 [h, w]; and the width and height of the upright original, or of the part, in pixels.

    Raises:
        ImageRefused: see `REASONS`.
    """
    header = _admit(data, limits, page)
    whole = (0, 0, header.width, header.height)
    left, top, right, bottom = whole if part is None else stored_part(part, header)
    width, height = right - left, bottom - top
    scale = min(1.0, longest / max(width, height))
    target = max(1, round(width * scale)), max(1, round(height * scale))
    image, _ = _picture(data, header, _Plan((left, top, right, bottom), target, is_detail=part is not None), limits)
    if header.orientation >= 5:
        width, height = height, width
    return np.array(image.convert("L"), dtype=np.uint8, order="C"), width, height


def take_turns(turn: contextlib.AbstractContextManager[object]) -> None:
    """Have this process decode large pictures in `turn` alone, which other processes may share."""
    global _large_turn  # noqa: PLW0603 -- set once, when a process of a pool starts
    _large_turn = turn


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85, optimize=True)
    return file.getvalue()


def _info(header: Header) -> ImageInfo:
    width, height = header.width, header.height
    if header.orientation >= 5:
        width, height = height, width
    return ImageInfo(header.format, MEDIA_TYPES[header.format], width, height, header.flags, header.pages)


def _admit(data: File, limits: Limits, page: int) -> Header:
    """The header of an image that keeps the limits."""
    limits.check_bytes(len(data))
    header = read_header(data, page)
    _check_pages(header, limits)
    width, height = header.width, header.height
    if not width or not height:
        msg = f"the {header.format.upper()} image is {width} x {height} pixels: it has nothing to show; export it again"
        raise ImageRefused("too-small", msg)
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        msg = (
            f"the image is {width} x {height} pixels, at most {limits.max_pixels} in all (ARTSEEK_MAX_PIXELS, which "
            f"can be raised) and {limits.max_side} on a side are taken: scale it down"
        )
        raise ImageRefused("too-many-pixels", msg)
    if header.passes * width * height > limits.max_passes:
        msg = (
            f"the {header.format.upper()} image of {width} x {height} pixels is stored in {header.passes} scans, which "
            f"makes {header.passes * width * height} pixels, at most {limits.max_passes} are taken (20 times "
            "ARTSEEK_MAX_PIXELS): save it as a baseline JPEG"
        )
        raise ImageRefused("too-complex", msg)
    _memory(data, header, limits, pixels=0 if header.coding in _SCALED or header.streams else width * height)
    return header


def _check_pages(header: Header, limits: Limits) -> None:
    if header.pages > limits.max_pages:
        msg = (
            f"the {header.format.upper()} file has {header.pages} pages, at most {limits.max_pages} are taken: split "
            "it, or raise ARTSEEK_MAX_PAGES"
        )
        raise ImageRefused("too-many-pages", msg)


def _memory(data: File, header: Header, limits: Limits, *, pixels: int) -> int:
    """The bytes that decoding to so many pixels takes, the file's own included, which must keep the limit."""
    needed = _held(data) + header.fixed_bytes + header.pixel_bytes * pixels
    if needed > limits.max_memory:
        msg = (
            f"decoding this {header.format.upper()} image of {header.width} x {header.height} pixels takes about "
            f"{needed // MIB} MiB of memory, at most {limits.max_memory // MIB} are given: scale it down, "
            "save it as a baseline JPEG, or raise ARTSEEK_DECODE_MEMORY"
        )
        raise ImageRefused("too-many-pixels", msg)
    return needed


def _held(data: File) -> int:
    """The bytes of memory that a file takes."""
    return len(data) if isinstance(data, bytes) else 0


def _decoder_of(data: File, header: Header, limits: Limits, pixels: int) -> tuple[bool, int]:
    """Whether libvips decodes a picture, and the bytes of memory that it takes."""
    if header.streams and (header.vips or _held(data) + header.pixel_bytes * pixels > _LARGE):
        return True, _memory(data, header, limits, pixels=0)
    return header.vips, _memory(data, header, limits, pixels=pixels)


def _picture(data: File, header: Header, plan: _Plan, limits: Limits) -> tuple[Image.Image, Header]:
    """The planned picture, RGB and upright; and the header with what decoding has found out."""
    stored = header.width, header.height
    # The whole picture's size at the planned scale, twice over: a JPEG is not decoded any smaller.
    part = plan.box[2] - plan.box[0], plan.box[3] - plan.box[1]
    wanted = [max(1, 2 * to * full // of) for to, full, of in zip(plan.target, stored, part, strict=True)]
    shrink = 1
    if header.coding in _SCALED:
        most = min(header.coarsest, *(full // least for full, least in zip(stored, wanted, strict=True)))
        shrink = max((scale for scale in (8, 4, 2) if scale <= most), default=1)
    by_vips, needed, shrink = _finest(data, header, limits, shrink, coarsen=plan.is_detail)
    # Threads, and the processes of a pool, take turns at what is large, so that the memory is needed once.
    with _refusing(header), _large_turn if needed > _LARGE else contextlib.nullcontext():
        if by_vips:
            small, header = _by_vips(data, header, plan, shrink)
        else:
            small = _by_pillow(data, header, plan, shrink)
        return upright(profiles.to_srgb(small, header.profile), header), header


def _by_vips(data: File, header: Header, plan: _Plan, shrink: int) -> tuple[Image.Image, Header]:
    box = pixels.shrunk(plan.box, shrink)

    def small(*, strict: bool) -> Image.Image:
        kept: list[object] = []
        return streaming.bring_down(
            lambda: streaming.opened(data, header, kept, strict=strict, shrink=shrink), header, box, plan.target
        )

    try:
        return small(strict=True), header
    except streaming.VipsError as error:
        if header.coding == "tiff" and _UNREAD.search(str(error)):
            return _of_another_kind(data, header, plan, error), header
        if header.coding != "jpeg" or _CUT_SHORT.search(str(error)):
            raise
        if not header.complete:
            raise EOFError(str(error)) from error
    return small(strict=False), replace(header, flags=("damaged",))  # a JPEG shows what is left of it


def _of_another_kind(data: File, header: Header, plan: _Plan, error: Exception) -> Image.Image:
    """A TIFF of a variant that libvips does not read, by Pillow."""
    try:
        return _by_pillow(data, header, plan, 1)
    except (OSError, SyntaxError, ValueError, KeyError):
        raise not_read("tiff", f"a variant of its own ({_first_line(error)})") from error


def _by_pillow(data: File, header: Header, plan: _Plan, shrink: int) -> Image.Image:
    stored = header.width, header.height
    if header.coding == "pdf":
        return pixels.bring_down(pdf.rendered(data, header, shrink), pixels.shrunk(plan.box, shrink), plan.target)
    whole = header.parts == ((0, len(data)),)
    file = io.BytesIO(data) if whole and isinstance(data, bytes) else spliced(data, header.parts)
    image = _DECODERS[header.coding](file)
    if image.size != stored:
        msg = f"its picture has {image.width} x {image.height} pixels, its header says {stored[0]} x {stored[1]}"
        raise ValueError(msg)
    if shrink > 1 and header.coding == "jp2":
        cast("Jpeg2000", image).reduce = shrink.bit_length() - 1
    elif shrink > 1:
        image.draft(None, (stored[0] // shrink, stored[1] // shrink))
    image.load()
    picture: Image.Image = image
    box = pixels.shrunk(plan.box, shrink)
    if header.coding == "jp2":
        picture, box = aligned(image, box, shrink)
    if image.mode.startswith(("I", "F")):
        return streaming.bring_down(lambda: streaming.from_pillow(picture), header, box, plan.target)
    return pixels.bring_down(picture, box, plan.target, keeps_alpha=header.profile is not None)


def _finest(data: File, header: Header, limits: Limits, shrink: int, *, coarsen: bool) -> tuple[bool, int, int]:
    """What `_decoder_of` says, and the scale that it says it of: with `coarsen`, a smaller one if memory wants it."""
    while True:
        pixels = -(-header.width // shrink) * -(-header.height // shrink)
        try:
            return *_decoder_of(data, header, limits, pixels), shrink
        except ImageRefused:
            if not coarsen or header.coding not in _SCALED or shrink >= header.coarsest:
                raise
        shrink *= 2


@contextlib.contextmanager
def _refusing(header: Header) -> Iterator[None]:
    """Turns whatever a decoder raises into a refusal, and keeps its warnings off the terminal."""
    # A filter is put in front rather than the filters swapped and restored, which is not safe among threads.
    if not warnings.filters or tuple(warnings.filters[0]) != _IGNORE_PILLOW:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    name = header.format.upper()
    try:
        yield
    except ImageRefused:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        msg = f"the {name} image of {header.width} x {header.height} pixels takes too much memory: scale it down"
        raise ImageRefused("too-many-pixels", msg) from error
    except Exception as error:  # a decoder may raise anything on hostile input
        finding = f"{type(error).__name__}: {error}"
        if _UNREAD.search(finding):
            raise not_read(header.format, f"a coding of its own ({_first_line(error)})") from error
        if isinstance(error, EOFError) or _CUT_SHORT.search(finding):
            msg = f"the {name} file ends before its picture does: it was cut short; copy or fetch it again"
            raise ImageRefused("truncated", msg) from error
        finding = f"{type(error).__name__}: {_first_line(error)}"
        msg = f"the {name} file is damaged or of a variant that is not read ({finding}); save it again as PNG or JPEG"
        raise ImageRefused("corrupt", msg) from error


def _first_line(error: Exception) -> str:
    """What an error says; libvips puts the particulars into a second line, behind what it was about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if isinstance(error, streaming.VipsError) and len(lines) > 1 else " ".join(lines[:1])
