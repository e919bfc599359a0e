"""Turns a decoded Pillow image of any pixel type into RGB, and brings it down in size without a second full copy.

What is at least four times too large is first averaged over whole squares of pixels, converted band by band; the rest
is Pillow's antialiased bicubic. Transparency is laid over white before anything is averaged, so that no hidden colour
bleeds in.
"""

import io
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from shared.images.contract import MIB

Box = tuple[float, float, float, float]

_BAND_PIXELS = 1 << 18
_MAX_PROFILE = 4 * MIB  # the largest CMYK profiles in use have under 3 MiB
_INKS = frozenset({"CMYK", "LAB"})  # brought down as they are, turned to RGB when small


def converter(image: Image.Image, *, inverted: bool) -> Callable[[Image.Image], Image.Image]:
    """The function that turns a part of a loaded image into RGB, or leaves it CMYK or LAB for `inks_to_rgb`.

    Args:
        image: the whole image, of which the value range of 16 and 32-bit pixels is taken.
        inverted: whether high values of a 16 or 32-bit grey image are dark.
    """
    transparency = image.info.get("transparency")
    if image.mode in _INKS:
        return lambda part: part
    if image.mode.startswith("I;16"):
        # Cameras and microscopes keep 12 or 14-bit samples in 16 bits.
        greatest = _value_range(image)[1]
        white = next(full for full in (4095, 16_383, 65_535) if greatest <= full)
        return lambda part: _grey16(part, white, transparency, inverted=inverted)
    if image.mode in {"I", "F"}:
        low, high = _value_range(image)
        return lambda part: _stretched(part, low, high, inverted=inverted)
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or _applies(transparency):
        return _over_white
    return lambda part: part if part.mode == "RGB" else part.convert("RGB")


def bring_down(
    image: Image.Image, box: Box, target: tuple[int, int], convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """The box of a loaded image, converted and resized to the target (width, height).

    Args:
        image: of any mode.
        box: left, top, right, bottom in its pixels; fractions are kept to.
        target: width and height in pixels.
        convert: what turns a part of the image into a mode that can be averaged.
    """
    left, top, right, bottom = box
    x0, y0, x1, y1 = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    factor = max(1, int(min((right - left) / (2 * target[0]), (bottom - top) / (2 * target[1]))))
    small: Image.Image | None = None
    for y, band in _bands(image, (x0, y0, x1, y1), factor):
        piece = convert(band)
        if factor > 1:
            piece = piece.reduce(factor)
        if band.height == y1 - y0:
            small = piece
            break
        if small is None:
            small = Image.new(piece.mode, (piece.width, -(-(y1 - y0) // factor)))
        small.paste(piece, (0, (y - y0) // factor))
    if small is None:
        msg = f"box {box} of an image of {image.size} pixels is empty"
        raise ValueError(msg)
    inner = ((left - x0) / factor, (top - y0) / factor, (right - x0) / factor, (bottom - y0) / factor)
    return small.resize(target, Image.Resampling.BICUBIC, box=inner)


def inks_to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A CMYK or LAB image in sRGB: by its profile, or by Pillow's formula for inks where it has no usable one."""
    if image.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return _colour_managed(image, source)
    if profile is not None and len(profile) <= _MAX_PROFILE and profile[16:20] == b"CMYK":
        try:
            return _colour_managed(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (OSError, ImageCms.PyCMSError):
            pass  # a broken profile leaves the picture as good as one without
    return image.convert("RGB")


def _bands(image: Image.Image, box: tuple[int, int, int, int], factor: int) -> Iterator[tuple[int, Image.Image]]:
    """Bands of rows of the box, each but the last a multiple of `factor` high: their first row and their pixels."""
    x0, y0, x1, y1 = box
    if factor == 1:
        yield y0, image if box == (0, 0, *image.size) else image.crop(box)
        return
    rows = max(1, _BAND_PIXELS // ((x1 - x0) * factor)) * factor
    for y in range(y0, y1, rows):
        yield y, image.crop((x0, y, x1, min(y + rows, y1)))


def _applies(transparency: object) -> bool:
    """Whether a transparent colour is one that 8-bit pixels can have: Pillow keeps a 16-bit PNG's as it stands."""
    if isinstance(transparency, tuple):
        return all(0 <= value <= 255 for value in transparency)
    return isinstance(transparency, bytes) or (isinstance(transparency, int) and 0 <= transparency <= 255)


def _over_white(part: Image.Image) -> Image.Image:
    if part.mode == "La":
        part = part.convert("LA")
    layer = part if part.mode == "RGBA" else part.convert("RGBA")
    white = Image.new("RGB", part.size, (255, 255, 255))
    white.paste(layer, mask=layer)
    return white


def _grey16(part: Image.Image, white: int, transparency: object, *, inverted: bool) -> Image.Image:
    values = np.asarray(part).astype(np.uint32)
    grey = (np.minimum(values, white) * 255 + white // 2) // white
    if inverted:
        grey = 255 - grey
    if isinstance(transparency, int):
        grey[values == transparency] = 255
    return _grey(grey)


def _value_range(image: Image.Image) -> tuple[float, float]:
    """The least and the greatest finite value; (0, 0) where there is none."""
    low, high = math.inf, -math.inf
    for _, band in _bands(image, (0, 0, *image.size), 2):
        values = np.asarray(band)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _stretched(part: Image.Image, low: float, high: float, *, inverted: bool) -> Image.Image:
    """Values from low to high as grey from 0 to 255; what is no number is black, a picture of one value mid-grey."""
    if high == low:
        return Image.new("RGB", part.size, (128, 128, 128))
    values = np.nan_to_num(np.asarray(part).astype(np.float64), nan=low, posinf=high, neginf=low)
    share = (values - low) / (high - low)
    return _grey(np.rint((1 - share if inverted else share) * 255))


def _grey(values: NDArray[np.generic]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _colour_managed(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    result = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    if result is None:
        msg = "the colour transform gave no image"
        raise OSError(msg)
    return result
