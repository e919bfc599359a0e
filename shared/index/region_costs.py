"""What it costs to index the regions of a collection's images, told before it begins."""

from dataclasses import dataclass
from typing import Final, Literal

from shared.windows import MOST_WINDOWS

_ROW_BYTES: Final = 120  # of a segment beside the embedding: id, digest, name, size and so on
_REDIS_BYTES: Final = 69  # of a row in all of Redis, measured: docs/benchmarks.md


@dataclass(frozen=True)
class RegionCosts:
    """What the windows cost that images have at most.

    Attributes:
        embeddings: Windows to embed.
        minutes: How long that takes, if windows are embedded as fast as the images were; None: that is not known.
        store_bytes: Bytes in the object store, and as many on the disk of the query service.
        redis_bytes: Bytes in the memory of Redis.
    """

    embeddings: int
    minutes: float | None
    store_bytes: int
    redis_bytes: int


def region_costs(
    images: int, *, dim: int, vector_type: Literal["float32", "float16"], images_per_second: float
) -> RegionCosts:
    """Return what windows of so many images cost; `images_per_second` is how fast images are embedded, 0 if unknown."""
    rows = images * MOST_WINDOWS
    vector_bytes = dim * (2 if vector_type == "float16" else 4)
    minutes = rows / images_per_second / 60 if images_per_second else None
    return RegionCosts(rows, minutes, rows * (vector_bytes + _ROW_BYTES), rows * _REDIS_BYTES)
