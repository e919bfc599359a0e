"""Pictures made on the spot, for tests of decoding."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.support.bombs import chunk

SIDE = 64


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def quadrants(side: int = SIDE, height: int | None = None) -> Image.Image:
    """Red, green / blue, yellow: every turn and flip of it looks different."""
    height = height or side
    image = Image.new("RGB", (side, height), (255, 0, 0))
    image.paste((0, 255, 0), (side // 2, 0, side, height // 2))
    image.paste((0, 0, 255), (0, height // 2, side // 2, height))
    image.paste((255, 255, 0), (side // 2, height // 2, side, height))
    return image


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height), 3)
    noise = rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse).astype(int) + noise, 0, 255).astype(np.uint8))


def detailed(seed: int, width: int = 480, height: int = 360) -> Image.Image:
    """Return a picture of many small shapes, which has many local features."""
    chance = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), (200, 195, 180))
    draw = ImageDraw.Draw(image)
    for _ in range(220):
        x, y = int(chance.integers(width)), int(chance.integers(height))
        wide, high = (int(side) for side in chance.integers(6, 50, 2))
        shape = draw.rectangle if chance.random() < 0.5 else draw.ellipse
        red, green, blue = (int(shade) for shade in chance.integers(0, 256, 3))
        shape((x, y, x + wide, y + high), fill=(red, green, blue))
    return image


def tiff(
    strip: bytes, width: int, height: int, *, bits: tuple[int, ...], photometric: int, order: str = "<", **more: int
) -> bytes:
    """An uncompressed TIFF of one strip."""
    extra = struct.pack(f"{order}{len(bits)}H", *bits)
    entries = {
        256: (4, 1, width), 257: (4, 1, height), 259: (3, 1, 1), 262: (3, 1, photometric), 273: (4, 1, 8),
        277: (3, 1, len(bits)), 278: (4, 1, height), 279: (4, 1, len(strip)),
    }  # fmt: skip
    entries[258] = (3, len(bits), 8 + len(strip)) if len(bits) > 2 else (3, 1, bits[0])
    entries |= {int(name.removeprefix("tag")): (4, 1, value) for name, value in more.items()}
    directory = struct.pack(order + "H", len(entries))
    for number, (kind, count, value) in sorted(entries.items()):
        short = kind == 3 and count == 1
        field = struct.pack(order + "HH", value, 0) if short else struct.pack(order + "I", value)
        directory += struct.pack(order + "HHI", number, kind, count) + field
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(strip) + len(extra))
    return head + strip + extra + directory + bytes(4)


def png_file(
    width: int, height: int, *, depth: int, colour: int, rows: NDArray[Any], transparent: bytes | None = None
) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    key = chunk(b"tRNS", transparent) if transparent is not None else b""
    return b"\x89PNG\r\n\x1a\n" + head + key + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
