"""Tells what kind of file some bytes are by their first bytes, never by a name."""

import re
import struct

from shared.images.contract import File, ImageRefused
from shared.images.raw import KINDS
from shared.images.raw_kinds import raw_kind

_TAKEN = (
    ("jpeg", b"\xff\xd8"),  # a marker follows, but decoders pass over bytes before it
    ("png", b"\x89PNG\r\n\x1a\n"),
    ("gif", b"GIF87a"),
    ("gif", b"GIF89a"),
    ("tiff", b"II*\0"),
    ("tiff", b"MM\0*"),
    ("tiff", b"II+\0"),  # BigTIFF
    ("tiff", b"MM\0+"),
    ("jp2", b"\0\0\0\x0cjP  "),
    ("jp2", b"\xff\x4f\xff\x51"),
    ("pdf", b"%PDF-"),
)
_BRANDS = {b"avif": "avif", b"avis": "avif"} | dict.fromkeys(
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis"), "heic"
)
_GENERAL_BRANDS = frozenset({b"mif1", b"msf1", b"miaf"})  # the others that such a file names say which it is
_BMP_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})

# Pictures and documents that people name .jpg: first bytes, and how to call them.
_OTHER_PICTURES = (
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "an encapsulated PostScript file"),
    (b"8BPS", "a Photoshop document"),
    *KINDS,
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"II\xbc", "a JPEG XR image"),
    (b"\x8aMNG", "an MNG animation"),
    (b"icns", "an Apple icon"),
    (b"DDS ", "a DirectDraw surface"),
    (b"qoif", "a QOI image"),
    (b"gimp xcf", "a GIMP document"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (b"\x01\xda", "an SGI image"),
    (b"AT&TFORM", "a DjVu document"),
    (b"\xb1\x68\xde\x3a", "a fax of several pages (DCX)"),
    (b"PF\n", "a portable float map (PFM)"),
    (b"Pf\n", "a portable float map (PFM)"),
    (b"#?RGBE", "a Radiance HDR image"),
    (b"\x8bJNG", "a JNG image"),
    (b"BPG\xfb", "a BPG image"),
    (b"FLIF", "a FLIF image"),
    (b"farbfeld", "a farbfeld image"),
    (b"\x59\xa6\x6a\x95", "a Sun raster image"),
    (b"SDPX", "a DPX image"),
    (b"XPDS", "a DPX image"),
    (b"\x80\x2a\x5f\xd7", "a Cineon image"),
    (b"\x08\xf2\xa6\xb6", "an image of libvips"),
    (b"\xb6\xa6\xf2\x08", "an image of libvips"),
    (b"BLP1", "a Blizzard texture"),
    (b"BLP2", "a Blizzard texture"),
    (b"FTEX", "a texture (FTEX)"),
    (b"\x80\xe8\0\0", "a PIXAR image"),
    (b"DanM", "a Microsoft Paint image"),
    (b"LinS", "a Microsoft Paint image"),
    (b"Paint Shop Pro Image File", "a Paint Shop Pro document"),
    (b"Image type:", "an IFUNC image (IM)"),
    (b"/* XPM */", "an X pixmap (XPM)"),
)
_OTHER_FILES = (
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
    (b"\x7fELF", "a program"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document or a cache of thumbnails"),
    (b"\x89HDF\r\n\x1a\n", "a file of measurements (HDF5)"),
)
# Files without a sign of their own, by the values that their header's fields may have.
_BY_HEADER = (
    (re.compile(rb"BM.{4}\0{4}.{4}[\x10-\x7f]\0\0\0", re.DOTALL), "a bitmap (BMP) with a head of another kind"),
    (re.compile(rb"FORM.{4}(?:ILBM|PBM |ACBM|DEEP|RGB8|RGBN|TVPP|FAXX)", re.DOTALL), "an Amiga picture (IFF)"),
    (re.compile(rb".{128}DICM", re.DOTALL), "a DICOM image"),
    (re.compile(rb".{2048}PCD_IPI", re.DOTALL), "a Photo CD image"),
    (re.compile(rb".{20}(?:GIMP|GPAT)", re.DOTALL), "a brush or pattern of GIMP"),
    (re.compile(rb".{65}PNTG", re.DOTALL), "a MacPaint image"),
    (re.compile(rb"\x01\0\0\0.{36} EMF", re.DOTALL), "a Windows metafile"),
    (re.compile(rb"[\x01\x02]\0\x09\0\0[\x01\x03]"), "a Windows metafile"),
    (re.compile(rb".{4}[\x11\x12]\xaf.{6}\x08\0", re.DOTALL), "an FLI animation"),
    (re.compile(rb"\0\0\0[\x64-\xff]\0\0\0\x07\0\0\0[\x00-\x02]"), "an X window dump (XWD)"),
    (re.compile(rb".{522}(?:\x11\x01|\0\x11\x02\xff)", re.DOTALL), "a QuickDraw picture (PICT)"),  # behind 512 bytes
    (
        re.compile(rb"\x28\0\0\0.{8}\x01\0[\x01\x04\x08\x10\x18\x20]\0", re.DOTALL),
        "a bitmap without the head of its file (DIB)",
    ),
    (re.compile(rb"#define\s+\S*_width\s+\d+\s", re.DOTALL), "an X bitmap (XBM)"),
    (re.compile(rb"P[1-7]\s"), "a portable anymap (PBM, PGM or PPM)"),
    (re.compile(rb"\x00\x00\x01\x00(?!\x00\x00)"), "a Windows icon"),  # how many there are comes next
    (re.compile(rb"\x00\x00\x02\x00(?!\x00\x00)"), "a Windows cursor"),
    (re.compile(rb"\x0a[\x00\x02-\x05][\x00\x01][\x01\x02\x04\x08]"), "a PC Paintbrush image (PCX)"),
    (
        # The length of a name, whether there is a palette, and the kind; palette, origin and size; bits of a pixel.
        re.compile(
            rb".(?:\x01[\x01\x09]|[\x00\x01][\x02\x03\x0a\x0b]).{13}[\x08\x0f\x10\x18\x20][\x00-\x3f]", re.DOTALL
        ),
        "a Targa image",
    ),
)
_HEAD = 4096
_TEXT = re.compile(rb"[\x20-\x7e\s\x1b]*")
_REMEDY = "convert it to JPEG, PNG, WebP, TIFF or another format that the documentation names"


def sniff(data: File) -> str:
    """The format of an image that may be taken, by its first bytes: a key of `MEDIA_TYPES`.

    Whatever takes files asks this, whether it has all of a file or its head.

    Raises:
        ImageRefused: `empty`, `format` or `not-an-image`, naming what the bytes are where that can be told.
    """
    if not len(data):
        msg = "the file is empty: it holds no bytes; fetch or export it again"
        raise ImageRefused("empty", msg)
    head = data[:_HEAD]
    for name, magic in _TAKEN:
        if head.startswith(magic):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    if head[4:8] == b"ftyp" and (brand := _brand(head)):
        return brand
    if raw_kind(head):
        return "raw"
    reason, kind = _other(head)
    msg = f"this is {kind}, which is no picture that can be taken: {_REMEDY}"
    raise ImageRefused(reason, msg)


def _other(data: bytes) -> tuple[str, str]:
    """The refusal's reason and the name of a file that is no image of ours."""
    if data[4:8] == b"ftyp":
        return ("format", "an HEIF image") if data[8:12] in _GENERAL_BRANDS else ("not-an-image", "a video")
    for reason, kinds in (("format", _OTHER_PICTURES), ("not-an-image", _OTHER_FILES)):
        for magic, kind in kinds:
            if data.startswith(magic):
                return reason, kind
    for pattern, kind in _BY_HEADER:
        if pattern.match(data):
            return "format", kind
    text = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<") and b"<svg" in text and b"<html" not in text:
        return "format", "an SVG drawing"
    return "not-an-image", _other_text(data[:4096], text)


def _brand(data: bytes) -> str | None:
    """The format of an ISO media file, by the brands that it names."""
    (end,) = struct.unpack_from(">I", data)
    named = [data[8:12], *(data[at : at + 4] for at in range(16, min(end, len(data), 256), 4))]
    if named[0] not in _BRANDS and named[0] not in _GENERAL_BRANDS:
        return None
    return next((_BRANDS[brand] for brand in named if brand in _BRANDS), None)


def _other_text(data: bytes, text: bytes) -> str:
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page (often an error page saved in the picture's place)"
    if text.startswith(b"<"):
        return "an XML or HTML document"
    if not data.strip(b"\0"):
        return "a file of zero bytes"
    if data.isascii() and _TEXT.fullmatch(data):
        return "a text file"
    return "data in no image format that is known"
