"""Opens an image within limits and decodes it to a small upright RGB picture, whatever its format and pixel type.

A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4 and 1/8 that leaves at least twice the wanted size; how the
rest is brought down says `shared.images.pixels`. A picture of moderate size therefore comes out exactly as Pillow's
`convert("RGB")`, `resize` and `crop` make it.

Colours: grey samples of 16 bits are scaled by the full range of 12, 14 or 16 bits that they keep to. Pictures of 32-bit
integers or floats are stretched from their least to their greatest finite value. CMYK goes through its embedded ICC
profile where that is usable, otherwise through Pillow's formula; LAB is read against D50. The profiles of RGB and grey
pictures are not applied: a wide-gamut photograph comes out slightly paler, the same for a collection and its queries.
"""

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.images.contract import DEFAULT_LIMITS, MEDIA_TYPES, MIB, ImageInfo, ImageRefused, Limits
from shared.images.header import Header
from shared.images.pixels import Box, bring_down, converter, inks_to_rgb
from shared.images.readers import read_header
from shared.images.splicing import spliced

_MAX_ASPECT = 4  # beyond it, only the middle of the longer side is resized: the crop needs no more
_LARGE = 32 * MIB
_large_turn = threading.Lock()
_IGNORE_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as `warnings` keeps a filter

# The decoders, by name: one class each, so that no other of Pillow's is ever tried.
_DECODERS: dict[str, Callable[[BinaryIO], ImageFile]] = {
    "jpeg": JpegImageFile,  # of a multi-picture JPEG (MPO) it reads the first
    "png": PngImageFile,
    "webp": WebPImageFile,
    "gif": GifImageFile,
    "tiff": TiffImageFile,
    "bmp": BmpImageFile,
}

# How to undo each EXIF orientation (CIPA DC-008, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class _Plan:
    """What to make of a picture, in stored orientation: which middle part (width, height), and its size afterwards."""

    part: tuple[int, int]
    target: tuple[int, int]


def identify(data: bytes, limits: Limits = DEFAULT_LIMITS) -> ImageInfo:
    """The format and size of an image, from its header alone.

    Raises:
        ImageRefused: see `REASONS`. An image that passes may still turn out corrupt when it is decoded.
    """
    return _info(_admit(data, limits))


def decode(data: bytes, *, size: int, limits: Limits = DEFAULT_LIMITS) -> tuple[NDArray[np.uint8], ImageInfo]:
    """An image as the models take it.

    The shorter side is brought to `size` pixels and the longer to the nearest whole number that keeps the shape
    (beyond four times the shorter, only its middle is); then the middle square is cut out, rounding to the upper left.

    Args:
        data: the file.
        size: side of the square, in pixels.
        limits: what the image may cost.

    Returns:
        uint8 [size, size, 3], RGB, C-contiguous; and what `identify` says.

    Raises:
        ImageRefused: see `REASONS`.
    """
    header = _admit(data, limits)
    shorter = min(header.width, header.height)
    width, height = (min(side, _MAX_ASPECT * shorter) for side in (header.width, header.height))
    scale = size / shorter
    plan = _Plan((width, height), (round(width * scale), round(height * scale)))
    image = _picture(data, header, plan, limits)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = np.array(image.crop((left, top, left + size, top + size)), dtype=np.uint8, order="C")
    return pixels, _info(header)


def thumbnail(data: bytes, *, box: int, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """A JPEG of the whole image, upright and without metadata, at most `box` pixels on either side and never enlarged.

    Raises:
        ImageRefused: see `REASONS`.
    """
    header = _admit(data, limits)
    scale = min(1.0, box / max(header.width, header.height))
    target = max(1, round(header.width * scale)), max(1, round(header.height * scale))
    image = _picture(data, header, _Plan((header.width, header.height), target), limits)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85, optimize=True)
    return file.getvalue()


def grey(data: bytes, *, side: int, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """The whole image in shades of grey, upright and squeezed into a square: uint8 [side, side].

    Raises:
        ImageRefused: see `REASONS`.
    """
    header = _admit(data, limits)
    image = _picture(data, header, _Plan((header.width, header.height), (side, side)), limits)
    return np.asarray(image.convert("L"), dtype=np.uint8)


def _info(header: Header) -> ImageInfo:
    width, height = header.width, header.height
    if header.orientation >= 5:
        width, height = height, width
    return ImageInfo(header.format, MEDIA_TYPES[header.format], width, height)


def _admit(data: bytes, limits: Limits) -> Header:
    """The header of an image that keeps the limits."""
    if len(data) > limits.max_bytes:
        msg = f"the file has {len(data)} bytes, at most {limits.max_bytes} are taken: save it smaller or compressed"
        raise ImageRefused("too-large", msg)
    header = read_header(data)
    width, height = header.width, header.height
    if not width or not height:
        msg = f"the {header.format.upper()} image is {width} x {height} pixels: it has nothing to show; export it again"
        raise ImageRefused("too-small", msg)
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        msg = (
            f"the image is {width} x {height} pixels, at most {limits.max_pixels} in all and {limits.max_side} "
            "on a side are taken: scale it down"
        )
        raise ImageRefused("too-many-pixels", msg)
    _memory(data, header, limits, pixels=0 if header.format == "jpeg" else width * height)
    return header


def _memory(data: bytes, header: Header, limits: Limits, *, pixels: int) -> int:
    """The bytes that decoding to so many pixels takes, the file's own included, which must keep the limit."""
    needed = len(data) + header.fixed_bytes + header.pixel_bytes * pixels
    if needed > limits.max_memory:
        msg = (
            f"decoding this {header.format.upper()} image of {header.width} x {header.height} pixels takes about "
            f"{needed // MIB} MiB of memory, at most {limits.max_memory // MIB} are given: scale it down, "
            "or save it as a baseline JPEG"
        )
        raise ImageRefused("too-many-pixels", msg)
    return needed


def _picture(data: bytes, header: Header, plan: _Plan, limits: Limits) -> Image.Image:
    """The planned picture: RGB, upright."""
    stored = header.width, header.height
    # The whole picture's size at the planned scale, twice over: a JPEG is not decoded any smaller.
    wanted = tuple(max(1, 2 * to * full // of) for to, full, of in zip(plan.target, stored, plan.part, strict=True))
    shrink = 1
    if header.format == "jpeg":
        shrink = max((s for s in (8, 4, 2) if all(f // w >= s for f, w in zip(stored, wanted, strict=True))), default=1)
    needed = _memory(data, header, limits, pixels=-(-stored[0] // shrink) * -(-stored[1] // shrink))
    # Threads take turns at what is large, so that a process needs the memory once and not per thread.
    with _refusing(header), _large_turn if needed > _LARGE else contextlib.nullcontext():
        whole = header.parts == ((0, len(data)),)
        image = _DECODERS[header.format](io.BytesIO(data) if whole else spliced(data, header.parts))
        if image.size != stored:
            msg = f"its picture has {image.width} x {image.height} pixels, its header says {stored[0]} x {stored[1]}"
            raise ValueError(msg)
        if shrink > 1:
            image.draft(None, (stored[0] // shrink, stored[1] // shrink))
        image.load()
        convert = converter(image, inverted=header.inverted)
        small = bring_down(image, _middle(stored, plan.part, shrink), plan.target, convert)
        if small.mode != "RGB":
            small = inks_to_rgb(small, header.profile)
        return small.transpose(_UPRIGHT[header.orientation]) if header.orientation != 1 else small


def _middle(stored: tuple[int, int], part: tuple[int, int], shrink: int) -> Box:
    """The middle part of a picture decoded at 1/shrink."""
    left, top = ((full - of) // 2 for full, of in zip(stored, part, strict=True))
    return left / shrink, top / shrink, (left + part[0]) / shrink, (top + part[1]) / shrink


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
        if isinstance(error, EOFError) or re.search("truncated|not enough", finding, re.IGNORECASE):
            msg = f"the {name} file ends before its picture does: it was cut short; copy or fetch it again"
            raise ImageRefused("truncated", msg) from error
        msg = f"the {name} file is damaged or of a variant that is not read ({finding}); save it again as PNG or JPEG"
        raise ImageRefused("corrupt", msg) from error
