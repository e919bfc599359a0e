"""Which image of a group to keep: the one with the most pixels, then by its format, its record, its file."""

from collections.abc import Sequence
from typing import Final

from shared.rpc.query import Image
from shared.schemas.images import paths_of, record_of

_LOSSLESS: Final = frozenset({"image/tiff", "image/png", "image/bmp", "image/x-portable-anymap"})
_POOR: Final = frozenset({"image/gif"})  # of 256 colours


def format_rank(media_type: str) -> int:
    """Return how much of a picture a format keeps: 2 all of it, 1 most, 0 little."""
    return 2 if media_type in _LOSSLESS else 0 if media_type in _POOR else 1


def record_size(image: Image) -> int:
    """Return how many values, labels and paths are known of an image."""
    fields = record_of(image)["fields"]
    paths, _ = paths_of(image)
    return sum(len(values) for values in fields.values()) + len(image.labels) + len(paths)


def best_of(images: Sequence[Image]) -> tuple[Image, str]:
    """Return the image of a group to keep, with the reason: what it is ahead of all others by."""
    ranked = sorted(images, key=_merits, reverse=True)
    best, second = _merits(ranked[0]), _merits(ranked[1])
    place = next(place for place, (one, other) in enumerate(zip(best, second, strict=True)) if one != other)
    image = ranked[0]
    reasons = (
        f"most pixels: {image.width} × {image.height}",
        f"as many pixels, and the better format: {image.media_type}",
        f"as many pixels, and the fullest record: {best[2]} values, labels and paths",
        f"as many pixels and as full a record, and the largest file: {image.size:,} bytes",
        "the same in all that counts, and the first that was added",
        "the same in all that counts",
    )
    return image, reasons[place]


def _merits(image: Image) -> tuple[int, int, int, int, float, int]:
    """Return what counts for an image, the most important first; no two images have the same."""
    return (
        image.width * image.height,
        format_rank(image.media_type),
        record_size(image),
        image.size,
        -image.added,
        -image.id,
    )
