"""Colour profiles (ICC): which of them have to be applied, and how.

Source of the layout: ICC.1:2022, section 7.
"""

import io
import zlib

from PIL import Image, ImageChops, ImageCms

from shared.images import pixels
from shared.images.contract import MIB

MAX_PROFILE = 4 * MIB
"""Bytes of a profile; the largest in use, those of inks, have under 3 MiB."""
_SPACES = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}
_SRGB = (b"sRGB", "sRGB".encode("utf-16-be"))


def needed(profile: bytes | None) -> bytes | None:
    """The profile if it says that the colours are not sRGB's; None where they are, or it cannot be one."""
    if profile is None or not 132 <= len(profile) <= MAX_PROFILE or profile[36:40] != b"acsp":
        return None
    if profile[16:20] == _SPACES["RGB"] and any(name in profile for name in _SRGB):
        return None
    return profile


def inflated(data: bytes) -> bytes | None:
    """A profile that is stored compressed; None where it is broken or too large."""
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(data, MAX_PROFILE + 1)
    except zlib.error:
        return None
    return profile if len(profile) <= MAX_PROFILE else None


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A small picture in sRGB: by its profile, or as it is (inks by Pillow's formula) where it has no usable one.

    What is transparent is laid over white after that, as browsers do: a mixture of two colours depends on the profile.
    """
    if image.mode == "RGBA":
        colours = to_srgb(image.convert("RGB"), profile)
        colours.putalpha(image.getchannel("A"))
        return pixels.laid_over(colours)
    if image.mode == "RGB" and profile is not None and profile[16:20] == _SPACES["L"] and _is_grey(image):
        image = image.getchannel(0)
    if image.mode == "LAB" or (profile is not None and profile[16:20] == _SPACES.get(image.mode)):
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        try:
            lab = ImageCms.createProfile("LAB") if image.mode == "LAB" else io.BytesIO(profile or b"")
            source = ImageCms.ImageCmsProfile(lab)
            managed = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            if managed is not None:
                return managed
        except (OSError, ImageCms.PyCMSError):
            pass  # a broken profile leaves the picture as good as one without
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_grey(image: Image.Image) -> bool:
    """Whether an RGB picture is a grey one that was made RGB; a profile of greys says nothing of any other."""
    red, green, blue = image.split()
    return not any(ImageChops.difference(red, other).getbbox() for other in (green, blue))
