"""Rows of segments without images: an entry and an embedding made from a number, the same at every call."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet
from shared.storage.segments import Entry

Vectors = npt.NDArray[np.float32]

LABELS = ("drawing", "painting", None)


def digest(number: int) -> str:
    """Return the digest of the image with this number."""
    return layout.digest_of(str(number).encode())


def image_id(number: int) -> int:
    """Return the id of the image with this number."""
    return layout.image_id(digest(number))


def ids(numbers: Sequence[int]) -> list[int]:
    """Return the ids of the images with these numbers."""
    return [image_id(number) for number in numbers]


def entry(number: int) -> Entry:
    """Return the entry of the image with this number."""
    return Entry(
        id=image_id(number),
        digest=digest(number),
        name=f"{number}.jpg",
        label=LABELS[number % len(LABELS)],
        size=len(str(number)),
        media_type="image/jpeg",
        width=640,
        height=480,
        added=1_700_000_000.0 + number,
    )


def embedding(number: int, dim: int) -> Vectors:
    """Return the embedding of the image with this number: float32 [dim], near one of twenty centres, of length 1."""
    centre = np.random.default_rng(number % 20).standard_normal(dim)
    point = centre + 0.5 * np.random.default_rng(1000 + number).standard_normal(dim)
    return np.asarray(point / np.linalg.norm(point), dtype=np.float32)


def embeddings(numbers: Sequence[int], dim: int) -> Vectors:
    """Return the embeddings of the images with these numbers, float32 [n, dim]."""
    return np.stack([embedding(number, dim) for number in numbers])


def segment(numbers: Sequence[int], embedding_set: EmbeddingSet, vectors: segments.Vectors | None = None) -> bytes:
    """Return a segment of the images with these numbers; `vectors`, [n, dim], in place of their embeddings."""
    return segments.pack(
        [entry(number) for number in numbers],
        embeddings(numbers, embedding_set.dim) if vectors is None else vectors,
        collection=embedding_set.collection,
        model=embedding_set.model,
        version=embedding_set.version,
    )
