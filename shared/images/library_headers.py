"""Headers of the formats whose containers only their decoders read: JPEG 2000, HEIC and AVIF."""

import io

from pi_heif import HeifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from shared.images import profiles, streaming
from shared.images.contract import File
from shared.images.header import Header, corrupt, truncated


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
        "jp2", width, height, ((0, len(data)),), pixel_bytes=5 * bands, fixed_bytes=len(data), profile=profile
    )


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
    """The header of an AVIF file; the decoder turns it upright.

    Raises:
        ImageRefused: it cannot be read.
    """
    whole = ((0, len(data)),)
    kept: list[object] = []
    try:
        image = streaming.opened(data, Header("avif", 1, 1, whole, pixel_bytes=4), kept)
        profile = image.get("icc-profile-data") if image.get_typeof("icc-profile-data") else None
    except streaming.VipsError as error:
        raise _refused("avif", error) from error
    return Header(
        "avif",
        image.width,
        image.height,
        whole,
        pixel_bytes=5,
        fixed_bytes=len(data),
        profile=profiles.needed(profile),
        vips=True,
    )


def _refused(name: str, error: Exception) -> Exception:
    finding = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, EOFError) or "end of file" in finding.lower() or "truncated" in finding.lower():
        return truncated(name, "inside its header")
    return corrupt(name, f"its header cannot be read ({finding[:200]})")
