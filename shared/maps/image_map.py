"""A map of an embedding set: where each image lies in a square, images that are alike beside each other.

It is stored as an npz file with a header of JSON. It keeps what is needed to place images that come later: which images
it was fitted on, and the projection in which they are compared.
"""

import io
import json
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import Invalid
from shared.versioned import FIELD, StoredKind

_MAP: Final = StoredKind("map")


@dataclass(frozen=True, eq=False)
class Projection:
    """Embeddings of length 1 brought to their principal components: ``(embeddings - mean) @ components``.

    Attributes:
        mean: float32 [dim].
        components: float32 [dim, c].
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    def apply(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return embeddings [n, dim] as float32 [n, c]; their lengths do not count, as for the cosine."""
        return ((normalized(embeddings) - self.mean) @ self.components).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ImageMap:
    """Where the images of an embedding set lie.

    Attributes:
        model, version: Whose embeddings are laid out.
        created: When it was fitted, in seconds since 1970.
        ids: int64 [n], in ascending order.
        positions: float32 [n, 2] from -1 to 1.
        fitted: bool [n]: which images it was fitted on; the others were placed.
        projection: In which images are compared.
    """

    model: str
    version: int
    created: float
    ids: NDArray[np.int64]
    positions: NDArray[np.float32]
    fitted: NDArray[np.bool_]
    projection: Projection

    def of(self, ids: NDArray[np.int64]) -> Self:
        """Return the map with those of its images alone whose ids these are."""
        kept = np.isin(self.ids, ids)
        return replace(self, ids=self.ids[kept], positions=self.positions[kept], fitted=self.fitted[kept])

    def pack(self) -> bytes:
        """Return the map as a file."""
        header = {FIELD: _MAP.newest, "model": self.model, "version": self.version, "created": self.created}
        file = io.BytesIO()
        np.savez(
            file,
            header=np.frombuffer(json.dumps(header).encode(), np.uint8),
            ids=self.ids,
            positions=self.positions,
            fitted=self.fitted,
            mean=self.projection.mean,
            components=self.projection.components,
        )
        return file.getvalue()

    @classmethod
    def unpack(cls, data: bytes, *, place: str) -> Self:
        """Return the map that a file holds.

        Raises:
            TooNew: A newer version wrote it.
            Invalid: It is damaged.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                header = json.loads(arrays["header"].tobytes())
                _MAP.check(header[FIELD], place=place)
                made = cls(
                    model=str(header["model"]),
                    version=int(header["version"]),
                    created=float(header["created"]),
                    ids=arrays["ids"].astype(np.int64),
                    positions=arrays["positions"].astype(np.float32),
                    fitted=arrays["fitted"].astype(np.bool_),
                    projection=Projection(arrays["mean"].astype(np.float32), arrays["components"].astype(np.float32)),
                )
        except Invalid:
            raise
        except Exception as error:  # numpy and zipfile raise many kinds on a damaged file
            raise Invalid(f"the map {place!r} cannot be read: {error}") from error
        if not len(made.ids) == len(made.positions) == len(made.fitted):
            raise Invalid(f"the map {place!r} cannot be read: its arrays differ in length")
        return made


def normalized(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return embeddings [n, dim] with length 1; one of length 0 stays."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return (embeddings / np.where(lengths > 0, lengths, 1)).astype(np.float32)
