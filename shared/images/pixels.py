"""Turns a picture that Pillow has decoded into RGB, and brings it down in size without a second full copy.

What is at least four times too large is first averaged over whole squares of pixels, converted band by band; the rest
is Pillow's antialiased bicubic. Transparency is laid over white before anything is averaged, so that no hidden colour
bleeds in; over black where a white drawing would leave nothing to see.
"""

import math
from collections.abc import Callable, Iterator

from PIL import Image

Box = tuple[float, float, float, float]
Convert = Callable[[Image.Image], Image.Image]

_BAND_PIXELS = 1 << 18
_NEARLY_WHITE = 250  # of 255: a picture of nothing else is blank
_LARGE_TARGET = 1024  # pixels of a side
_SEEN = 16  # levels between the darkest and the brightest of what is to be seen


def bring_down(image: Image.Image, box: Box, target: tuple[int, int], *, keeps_alpha: bool = False) -> Image.Image:
    """The box of a loaded image of 8-bit samples, resized to the target (width, height): RGB, or CMYK or LAB as it is.

    Args:
        image: the whole image.
        box: left, top, right, bottom in its pixels; fractions are kept to.
        target: width and height in pixels.
        keeps_alpha: whether one with transparency becomes RGBA, which `laid_over` takes, and is not laid over white.
    """
    if image.mode in {"CMYK", "LAB"}:
        return _brought_down(image, box, target, lambda part: part)
    if not has_transparency(image):
        return _brought_down(image, box, target, lambda part: part if part.mode == "RGB" else part.convert("RGB"))
    if keeps_alpha:
        return _brought_down(image, box, target, _rgba)
    small = _brought_down(image, box, target, _over((255, 255, 255)))
    if is_blank(small):
        dark = _brought_down(image, box, target, _over((0, 0, 0)))
        if shows_something(dark):
            return dark
    return small


def laid_over(image: Image.Image) -> Image.Image:
    """A small RGBA picture over white; over black where a white drawing would leave nothing to see."""
    small = _over((255, 255, 255))(image)
    if is_blank(small):
        dark = _over((0, 0, 0))(image)
        if shows_something(dark):
            return dark
    return small


def has_transparency(image: Image.Image) -> bool:
    """Whether a part of an image may be transparent."""
    return image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or _applies(image.info.get("transparency"))


def is_blank(image: Image.Image) -> bool:
    """Whether a picture is nearly white all over."""
    return min(low for low, _ in image.convert("RGB").getextrema()) >= _NEARLY_WHITE  # type: ignore[misc]


def shows_something(image: Image.Image) -> bool:
    """Whether a picture has more than one shade."""
    return any(high - low >= _SEEN for low, high in image.convert("RGB").getextrema())  # type: ignore[misc]


def factor_of(box: Box, target: tuple[int, int]) -> int:
    """The side of the squares of pixels that are averaged first: at least twice the target is left.

    Of a large target once as much is enough, and takes a quarter of the memory.
    """
    left, top, right, bottom = box
    least = 2 if max(target) <= _LARGE_TARGET else 1
    return max(1, int(min((right - left) / (least * target[0]), (bottom - top) / (least * target[1]))))


def outer(box: Box) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches."""
    left, top, right, bottom = box
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def middle(box: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """The middle of a part, so wide and high."""
    left, top = box[0] + (box[2] - box[0] - width) // 2, box[1] + (box[3] - box[1] - height) // 2
    return left, top, left + width, top + height


def shrunk(box: tuple[int, int, int, int], shrink: int) -> Box:
    """Where a part lies in a picture decoded at 1/shrink."""
    left, top, right, bottom = box
    return left / shrink, top / shrink, right / shrink, bottom / shrink


def resized(small: Image.Image, box: Box, factor: int, target: tuple[int, int]) -> Image.Image:
    """What was averaged over squares of `outer(box)`, at its final size."""
    left, top, right, bottom = box
    x0, y0, _, _ = outer(box)
    inner = ((left - x0) / factor, (top - y0) / factor, (right - x0) / factor, (bottom - y0) / factor)
    return small.resize(target, Image.Resampling.BICUBIC, box=inner)


def _brought_down(image: Image.Image, box: Box, target: tuple[int, int], convert: Convert) -> Image.Image:
    x0, y0, x1, y1 = outer(box)
    factor = factor_of(box, target)
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
    return resized(small, box, factor, target)


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
    """Whether a transparent colour is one that 8-bit pixels can have."""
    if isinstance(transparency, tuple):
        return all(0 <= value <= 255 for value in transparency)
    return isinstance(transparency, bytes) or (isinstance(transparency, int) and 0 <= transparency <= 255)


def _rgba(part: Image.Image) -> Image.Image:
    if part.mode == "La":
        part = part.convert("LA")
    return part if part.mode == "RGBA" else part.convert("RGBA")


def _over(ground: tuple[int, int, int]) -> Convert:
    def convert(part: Image.Image) -> Image.Image:
        layer = _rgba(part)
        laid = Image.new("RGB", part.size, ground)
        laid.paste(layer, mask=layer)
        return laid

    return convert
