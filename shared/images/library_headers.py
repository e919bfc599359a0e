"""Headers of the formats whose containers only their decoders read: JPEG 2000, HEIC and AVIF."""

import io
from typing import TYPE_CHECKING, Any

from pi_heif import HeifImageFile
from PIL import AvifImagePlugin
from PIL.AvifImagePlugin import AvifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from shared.images import profiles
from shared.images.contract import File
from shared.images.header import Header, corrupt, truncated
from shared.images.pixels import Box
from shared.images.tags import exif_orientation

if TYPE_CHECKING:
    from PIL import Image

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # images are decoded side by side, each by one thread
_CODESTREAM = b"\xff\x4f\xff\x51"
_COEFFICIENTS = {0x52: 9, 0x53: 6}  # markers COD and COC, and where they have the number of levels
_AFTER_HEADER = frozenset({0x90, 0x93, 0xD9})  # of a tile, of its data, and the end


class Jpeg2000(Jpeg2KImageFile):
    """A JPEG 2000 whose smaller scales are as large as OpenJPEG makes them: Pillow expects others, and then fails."""

    def load(self) -> Any:
        """Decode it."""
        if self.tile:
            scale = 1 << int(self._reduce)
            self._size = -(-self.width // scale) * scale, -(-self.height // scale) * scale
        return super().load()


def aligned(image: "Image.Image", box: Box, shrink: int) -> "tuple[Image.Image, Box]":
    """Return a JPEG 2000 that was decoded at 1/`shrink` so that a box in it covers what it covers of the whole.

    A pixel of a smaller scale lies where the first of those was that it stands for, not in their middle.
    """
    if shrink == 1 or image.mode == "P":
        return image, box
    width, height = image.size
    wider = image.crop((0, 0, width + 1, height + 1))
    wider.paste(image.crop((width - 1, 0, width, height)), (width, 0))
    wider.paste(wider.crop((0, height - 1, width + 1, height)), (0, height))
    shift = (1 - 1 / shrink) / 2
    left, top, right, bottom = box
    return wider, (left + shift, top + shift, right + shift, bottom + shift)


def jp2(data: File) -> Header:
    """The header of a JPEG 2000 file.

    Raises:
        ImageRefused: it cannot be read.
    """
    try:
        image = Jpeg2KImageFile(io.BytesIO(data))
    except (SyntaxError, ValueError, OSError) as error:
        raise _refused("jp2", error) from error
    width, height = image.size
    bands = len(image.getbands())
    profile = profiles.needed(image.info.get("icc_profile"))
    # The decoder takes four bytes for each sample, and Pillow one or two.
    return Header(
        "jp2",
        width,
        height,
        ((0, len(data)),),
        pixel_bytes=5 * bands,
        fixed_bytes=len(data),
        profile=profile,
        coarsest=1 << min(3, _levels(data)),
    )


def _levels(data: File) -> int:
    """Return how often the sides of a JPEG 2000 can be halved by leaving out what is finer (ISO 15444-1, annex A)."""
    position, levels = data.find(_CODESTREAM) + 2, 32
    while position + 14 < len(data) and data[position] == 0xFF and data[position + 1] not in _AFTER_HEADER:
        if data[position + 1] in _COEFFICIENTS:
            levels = min(levels, data[position + _COEFFICIENTS[data[position + 1]]])
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return levels if levels < 32 else 0


def heic(data: File) -> Header:
    """The header of an HEIC file; the decoder turns it upright.

    Raises:
        ImageRefused: it cannot be read.
    """
    try:
        image = HeifImageFile(io.BytesIO(data))
    except (SyntaxError, ValueError, OSError, RuntimeError, EOFError) as error:
        raise _refused("heic", error) from error
    width, height = image.size
    profile = profiles.needed(image.info.get("icc_profile"))
    return Header("heic", width, height, ((0, len(data)),), pixel_bytes=4, fixed_bytes=len(data), profile=profile)


def avif(data: File) -> Header:
    """The header of an AVIF file; how it is to be turned, its decoder says as EXIF does.

    Raises:
        ImageRefused: it cannot be read.
    """
    try:
        image = AvifImageFile(io.BytesIO(data))
    except (SyntaxError, ValueError, OSError, RuntimeError) as error:
        raise _refused("avif", error) from error
    width, height = image.size
    profile = profiles.needed(image.info.get("icc_profile"))
    orientation = exif_orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
    # Luminance and chrominance, the RGB that they become, and Pillow's picture of it.
    return Header(
        "avif",
        width,
        height,
        ((0, len(data)),),
        pixel_bytes=9,
        fixed_bytes=len(data),
        orientation=orientation,
        profile=profile,
    )


def _refused(name: str, error: Exception) -> Exception:
    finding = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, EOFError) or "end of file" in finding.lower() or "truncated" in finding.lower():
        return truncated(name, "inside its header")
    return corrupt(name, f"its header cannot be read ({finding[:200]})")
