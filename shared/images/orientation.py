"""What the orientation that EXIF gives a picture does to it, and to a part of it."""

from PIL import Image

from shared.images.header import Header
from shared.images.regions import Rectangle

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


def upright(image: Image.Image, header: Header) -> Image.Image:
    """Return a stored picture as it is to be seen."""
    return image if header.orientation == 1 else image.transpose(_UPRIGHT[header.orientation])


def stored_part(part: Rectangle, header: Header) -> Rectangle:
    """Return where a part of the upright picture lies in the stored one, in pixels."""
    left, top, right, bottom = part
    width, height = header.width, header.height
    places = {
        2: (width - right, top, width - left, bottom),
        3: (width - right, height - bottom, width - left, height - top),
        4: (left, height - bottom, right, height - top),
        5: (top, left, bottom, right),
        6: (top, height - right, bottom, height - left),
        7: (width - bottom, height - right, width - top, height - left),
        8: (width - bottom, left, width - top, right),
    }
    return places.get(header.orientation, part)
