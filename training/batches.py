"""Batches of images as a network takes them: decoded ahead of their use, and augmented where that is asked for."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.images import decode

Pixels = npt.NDArray[np.uint8]

_THREADS = 4
_AHEAD = 4  # batches that are decoded before they are asked for

# How much an augmented image differs at most.
_TURN = 10.0  # degrees
_ZOOM = 0.15  # share by which it is enlarged or shrunk
_SHIFT = 0.08  # share of its side


def batches(
    paths: Sequence[Path], size: int, *, batch: int, seeds: Sequence[Sequence[int]] | None = None
) -> Iterator[Pixels]:
    """Yield images in their order, uint8 [at most `batch`, size, size, 3], RGB.

    Args:
        paths: Files that can be decoded.
        size: Side of the square that is cut out of their middle, in pixels.
        batch: Images at a time.
        seeds: The seed by which each image is augmented; None: images as they are.
    """

    def read(place: int) -> Pixels:
        pixels, _ = decode(paths[place].read_bytes(), size=size)
        return pixels if seeds is None else augmented(pixels, np.random.default_rng(list(seeds[place])))

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="decode") as pool:
        starts = iter(range(0, len(paths), batch))

        def begin(count: int) -> list[list[Future[Pixels]]]:
            return [
                [pool.submit(read, place) for place in range(start, min(start + batch, len(paths)))]
                for start in islice(starts, count)
            ]

        waiting = begin(_AHEAD)
        while waiting:
            decoding = waiting.pop(0)
            waiting += begin(1)
            yield np.stack([future.result() for future in decoding])


def augmented(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Return an image, uint8 [s, s, 3], mirrored or not, and turned, zoomed and moved a little, its edges drawn out."""
    side = len(pixels)
    angle = math.radians(rng.uniform(-_TURN, _TURN))
    zoom = 1 + rng.uniform(-_ZOOM, _ZOOM)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    dx, dy = rng.uniform(-_SHIFT, _SHIFT, 2) * side
    # Where each new pixel comes from: around the middle, turned, scaled, mirrored, moved.
    cos, sin, middle = math.cos(angle) / zoom, math.sin(angle) / zoom, (side - 1) / 2
    rows = (mirror * cos, -mirror * sin), (sin, cos)
    offset = [middle + move - row[0] * middle - row[1] * middle for row, move in zip(rows, (dx, dy), strict=True)]
    border = math.ceil(side * (_SHIFT + _ZOOM + math.sin(math.radians(_TURN))))
    framed = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="edge")
    matrix = (*rows[0], offset[0] + border, *rows[1], offset[1] + border)
    image = Image.fromarray(framed).transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(image)
