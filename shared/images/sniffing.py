"""Tells what kind of file some bytes are by their first bytes, never by a name."""

import re

from shared.images.contract import ImageRefused

_TAKEN = (
    ("jpeg", b"\xff\xd8\xff"),
    ("png", b"\x89PNG\r\n\x1a\n"),
    ("gif", b"GIF87a"),
    ("gif", b"GIF89a"),
    ("tiff", b"II*\0"),
    ("tiff", b"MM\0*"),
    ("tiff", b"II+\0"),  # BigTIFF
    ("tiff", b"MM\0+"),
)
_BMP_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})

# Pictures and documents that people name .jpg: first bytes, and how to call them.
_OTHER_PICTURES = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "an encapsulated PostScript file"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"II\xbc", "a JPEG XR image"),
    (b"\x8aMNG", "an MNG animation"),
    (b"\0\0\1\0", "a Windows icon"),
    (b"\0\0\2\0", "a Windows cursor"),
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
)
_BRANDS = {b"avif": "an AVIF image", b"avis": "an AVIF image"} | dict.fromkeys(
    (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "an HEIC image"
)
_ANYMAP = re.compile(rb"P[1-7]\s")
_TEXT = re.compile(rb"[\x20-\x7e\s\x1b]*")
_REMEDY = "convert it to JPEG, PNG, WebP, GIF, TIFF or BMP"


def sniff(data: bytes) -> str:
    """The format of an image that is taken: a key of `MEDIA_TYPES`.

    Raises:
        ImageRefused: `empty`, `format` or `not-an-image`, naming what the bytes are where that can be told.
    """
    if not data:
        msg = "the file is empty: it holds no bytes; fetch or export it again"
        raise ImageRefused("empty", msg)
    for name, magic in _TAKEN:
        if data.startswith(magic):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    reason, kind = _other(data)
    msg = f"this is {kind}, which is no picture that can be taken: {_REMEDY}"
    raise ImageRefused(reason, msg)


def _other(data: bytes) -> tuple[str, str]:
    """The refusal's reason and the name of a file that is no image of ours."""
    if data[4:8] == b"ftyp":
        return ("format", _BRANDS[data[8:12]]) if data[8:12] in _BRANDS else ("not-an-image", "a video")
    for reason, kinds in (("format", _OTHER_PICTURES), ("not-an-image", _OTHER_FILES)):
        for magic, kind in kinds:
            if data.startswith(magic):
                return reason, kind
    if _ANYMAP.match(data):
        return "format", "a portable anymap (PBM, PGM or PPM)"
    text = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<") and b"<svg" in text and b"<html" not in text:
        return "format", "an SVG drawing"
    return "not-an-image", _other_text(data[:4096], text)


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
