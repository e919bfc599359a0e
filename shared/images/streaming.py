"""What libvips decodes: row by row, so that a large picture never is in memory, and samples of any number of bits.

Samples of 16 bits are scaled by their range, as every decoder does, but grey ones that keep to 12 bits by those: they
would be black. Unsigned ones of 32 bits are scaled by their range if they use its upper half. Signed samples, others of
32 bits and floats are stretched from their 1st to their 99th percentile, without what stands for no measurement; but
floats that are colours from 0 to 1 are taken as they are.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.images.contract import File
from shared.images.header import Header, not_read
from shared.images.pixels import Box, factor_of, is_blank, outer, resized, shows_something
from shared.images.splicing import Part, spliced

os.environ.setdefault("VIPS_CONCURRENCY", "1")  # images are decoded side by side, each by one thread
import pyvips

pyvips.cache_set_max(0)  # no image is decoded twice

Vips = Any  # pyvips makes its methods when they are called
VipsError = pyvips.Error

_LOADERS = {"jpeg": "jpegload", "png": "pngload", "tiff": "tiffload"}
_PERCENTILES = (1, 99)
_SAMPLE = 1 << 20  # pixels that percentiles are taken of
_SMALL = 1 << 20  # bytes of a file that are sooner handed over than read piece by piece
_TWELVE_BITS, _SIXTEEN_BITS = 4095, 65_535
_HALF, _STEP = 1 << 31, 0x1010101  # of samples of 32 bits: half their range, and a step of those of 8 bits
_TO_RGB = {"lab", "labs", "labq", "lch", "xyz", "yxy", "hsv", "oklab", "oklch"}


def opened(data: File, header: Header, kept: list[Any], *, strict: bool = True, shrink: int = 1) -> Vips:
    """The picture as libvips sees it, not decoded yet.

    Args:
        data: the file.
        header: what its header says.
        kept: gets what has to live as long as the picture is decoded.
        strict: whether whatever is wrong with its samples is an error.
        shrink: of a JPEG, 1, 2, 4 or 8: decode at this part of its size.
    """
    name = _LOADERS[header.coding]
    options: dict[str, Any] = {"access": "sequential", "fail_on": "none"}
    if strict:
        options["fail_on"] = "warning" if name == "jpegload" else "error"  # warnings of a TIFF are about its tags
    if name == "jpegload":
        options["shrink"] = shrink
    else:
        options["unlimited"] = True  # the header was held to the limits, and the kernel bounds the process
    load = getattr(pyvips.Image, f"{name}_{'buffer' if len(data) <= _SMALL else 'source'}")
    kept.append(_input(data, header.parts))
    return load(kept[-1], **options)


def bring_down(open_: Callable[[], Vips], header: Header, box: Box, target: tuple[int, int]) -> Image.Image:
    """The box of a picture, resized to the target: RGB, L or CMYK; RGBA if it has a profile and transparency.

    Args:
        open_: opens it; a picture whose samples are scaled by their range is gone through twice.
        header: what its header says.
        box: left, top, right, bottom in its pixels; fractions are kept to.
        target: width and height in pixels.
    """
    image, alpha = _eight_bits(open_, header)
    x0, y0, x1, y1 = outer(box)
    image = image.crop(x0, y0, x1 - x0, y1 - y0)
    factor = factor_of(box, target)
    if factor > 1:
        image = image.premultiply() if alpha else image
        image = image.shrink(factor, factor, ceil=True)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[image.bands - alpha]
    if not alpha:
        pixels = image if image.format == "uchar" else image.rint().cast("uchar")
        return resized(_picture(pixels.numpy(), mode), box, factor, target)
    layers = image.numpy().astype(np.float32)
    colours, share = layers[..., :-1], layers[..., -1:] / 255
    if header.profile is not None and mode != "CMYK":  # by the profile first, then over white
        plain = colours if factor == 1 else np.divide(colours, share, out=np.zeros_like(colours), where=share > 0)
        values = np.concatenate([plain, share * 255], axis=-1).clip(0, 255)
        return resized(_picture(values, "RGBA").convert("RGBA"), box, factor, target)
    if factor == 1:
        colours = colours * share
    white = 0 if mode == "CMYK" else 255
    over_white = resized(_picture(colours + (1 - share) * white, mode), box, factor, target)
    if is_blank(over_white):
        over_black = resized(_picture(colours + (1 - share) * (255 - white), mode), box, factor, target)
        if shows_something(over_black):
            return over_black
    return over_white


def from_pillow(image: Image.Image) -> Vips:
    """A loaded Pillow image of 16-bit or 32-bit samples, as libvips sees it."""
    return pyvips.Image.new_from_array(np.asarray(image))


def _input(data: File, parts: Sequence[Part]) -> Any:
    if len(data) <= _SMALL:
        view = memoryview(data)
        return b"".join(part if isinstance(part, bytes) else view[slice(*part)] for part in parts)
    file = spliced(data, parts)
    source = pyvips.SourceCustom()
    source.on_read(file.read)
    source.on_seek(file.seek)
    return source


def _eight_bits(open_: Callable[[], Vips], header: Header) -> tuple[Vips, bool]:
    """The picture with 8-bit samples of one, three or four colours; and whether transparency comes behind them."""
    image = open_()
    if image.interpretation in _TO_RGB and image.format != "complex":
        image = image.colourspace("srgb")
    colours = _colours(image)
    has_alpha = image.bands > colours and (header.alpha if header.alpha is not None else image.hasalpha())
    alpha = image.extract_band(colours) if has_alpha else None
    picture = image.extract_band(0, n=colours) if image.bands > colours else image
    if image.format == "ushort":
        white = _SIXTEEN_BITS
        if colours == 1 and _first_bands(open_(), 1).max() <= _TWELVE_BITS:  # of cameras and microscopes
            white = _TWELVE_BITS
        picture = (picture >> 8) if colours > 1 else (picture * (255 / white)).rint()
        alpha = alpha >> 8 if alpha is not None else None
    elif image.format == "uint" and _first_bands(open_(), colours).max() >= _HALF:
        picture = (picture / _STEP).rint()
        alpha = (alpha / _STEP).rint() if alpha is not None else None
    elif image.format != "uchar":
        if image.format not in {"char", "short", "int", "uint", "float", "double"}:
            raise not_read(header.format, f"samples of the type {image.format!r}")
        picture, alpha = _stretched(picture, _first_bands(open_(), colours), header.no_data), None
    picture = picture.cast("uchar")
    if alpha is None:
        return picture, False
    return picture.bandjoin(alpha.cast("uchar")), True


def _colours(image: Vips) -> int:
    if image.interpretation == "cmyk" and image.bands >= 4:
        return 4
    if image.interpretation in {"b-w", "grey16"} or image.bands < 3:
        return 1
    return 3


def _first_bands(image: Vips, count: int) -> Vips:
    return image.extract_band(0, n=count) if image.bands > count else image


def _stretched(picture: Vips, again: Vips, no_data: float | None) -> Vips:
    """Values from a low to a high percentile as 0 to 255; what is no value is black, a picture of one value grey."""
    step = max(1, int((picture.width * picture.height / _SAMPLE) ** 0.5))
    sample = again.subsample(step, step).numpy().astype(np.float64)
    values = sample[np.isfinite(sample)]
    if no_data is not None:
        values = values[~np.isclose(values, no_data, rtol=1e-6, atol=0)]
    low, high = np.percentile(values, _PERCENTILES) if values.size else (0.0, 0.0)
    if picture.bands == 3 and low >= 0 and 0.5 < high <= 1:
        low, high = 0.0, 1.0  # colours as decoders write them, no measurements
    if low == high and values.size:
        low, high = values.min(), values.max()
    if low == high:
        return (picture == picture).ifthenelse(128, 128)  # noqa: PLR0124 -- the same where it is no number
    lacking = picture != picture  # noqa: PLR0124 -- what is no number equals nothing, itself included
    if no_data is not None:
        lacking = lacking | ((picture - no_data).abs() <= abs(no_data) * 1e-6)
    scaled = ((picture - float(low)) * (255 / float(high - low))).rint()
    return lacking.ifthenelse(0, scaled)


def _picture(values: NDArray[Any], mode: str) -> Image.Image:
    if values.dtype != np.uint8:
        values = np.rint(values).astype(np.uint8)
    if mode == "L" and values.ndim == 3:
        values = values[..., 0]
    return Image.fromarray(np.ascontiguousarray(values), mode) if mode == "CMYK" else Image.fromarray(values)
