"""Image files that are small and ask for much: pixels, scans, frames, tags, nested chunks."""

import io
import struct
import zlib
from functools import cache

from PIL import Image


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, before: bytes = b"", pixels: bytes | None = None) -> bytes:
    """A black RGB PNG."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = bytes((width * 3 + 1) * height) if pixels is None else pixels
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def scans(side: int, count: int, *, between: bytes = b"") -> bytes:
    """A grey progressive JPEG of so many scans, with bytes before each that was added."""
    file = io.BytesIO()
    Image.new("L", (side, side), 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + (between + last) * (count - data.count(b"\xff\xda")) + data[-2:]


def tiff(tags: dict[int, tuple[int, int, int]], body: bytes = bytes(200)) -> bytes:
    """A little-endian TIFF: its body at offset 8, then a directory of tag: (type, count, value or offset)."""
    entries = b"".join(struct.pack("<HHII", number, *fields) for number, fields in sorted(tags.items()))
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


def hidden_scans(side: int, count: int) -> bytes:
    """A TIFF whose strip is a progressive JPEG: no header tells what it asks for."""
    picture = scans(side, count)
    return tiff(
        {
            256: (4, 1, side), 257: (4, 1, side), 258: (3, 1, 8), 259: (3, 1, 7), 262: (3, 1, 1),
            273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, side), 279: (4, 1, len(picture)),
        },
        picture,
    )  # fmt: skip


def tags(count: int) -> bytes:
    """A TIFF of so many tags."""
    return tiff(dict.fromkeys(range(count), (3, 1, 1)))


def exif_blocks(count: int) -> bytes:
    """A small PNG with so many EXIF blocks of 4,000 tags each."""
    block = b"MM\0\x2a\0\0\0\x08" + struct.pack(">H", 4000) + bytes(12 * 4000 + 4)
    return png(60, 60, before=chunk(b"eXIf", block) * count)


def frames(kind: str, count: int) -> bytes:
    """An animation of so many frames, each different."""
    file = io.BytesIO()
    first, *others = (Image.new("RGB", (8, 8), (number * 37 % 256, 0, 0)) for number in range(count))
    first.save(file, kind, save_all=True, append_images=others, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def nested_chunks(count: int) -> bytes:
    """A WebP whose first frame holds so many chunks of unknown kinds, of which each claims to hold the next."""
    data = frames("WEBP", 3)
    start = data.index(b"ANMF")
    (length,) = struct.unpack_from("<I", data, start + 4)
    frame = data[start + 8 : start + 8 + length]
    inner = b"".join(b"ANMF" + struct.pack("<I", 8 * left) for left in range(count, 0, -1))
    changed = b"ANMF" + struct.pack("<I", length + len(inner)) + frame[:16] + inner + frame[16:]
    rest = data[12:start] + changed + data[start + 8 + length + (length & 1) :]
    return b"RIFF" + struct.pack("<I", len(rest) + 4) + b"WEBP" + rest


@cache
def all_kinds() -> dict[str, bytes]:
    """One bomb of each kind, for the usual limits."""
    return {
        "pixels of a PNG": png(60_000, 60_000, pixels=b""),
        "scans of a JPEG": scans(64, 101),
        "scans behind a comment": scans(64, 101, between=b"\xff\xfe\0\x04\xff\xd9"),
        "tags of a TIFF": tags(65_535),
        "chunks of a PNG": png(60, 60, before=chunk(b"tEXt", b"") * 70_000),
        "chunks of a WebP": b"RIFF" + struct.pack("<I", 4 + 8 * 70_000) + b"WEBP" + (b"JUNK" + bytes(4)) * 70_000,
        "chunks in a chunk": nested_chunks(100_000),
        "blocks of a GIF": b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b"!\xfe\0" * 400_000,
    }
