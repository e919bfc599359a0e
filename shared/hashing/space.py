"""The space that is hashed: vectors less their mean, scaled to length 1, on the sample's first principal axes.

Coordinates are exact. A vector is rounded to whole steps first, and mean and axes are whole numbers too; every sum
stays within the 53 bits that a float64 holds exactly. So a sum does not depend on the order of adding, and a vector has
the same coordinates alone or in a batch, whatever the BLAS, its threads and the machine. What else is done (multiply,
divide, root, round) is done number by number, which IEEE 754 rounds in one way.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from shared.hashing.types import FloatArray, HashingError

WholeNumbers = npt.NDArray[np.float64]
"""Whole numbers held as float64, for the sake of BLAS."""

POINT_BITS = 25  # coordinates are in steps of 2**-25 of the length of a point
AXIS_BITS = 26  # an axis has length 2**26, so that point times axis stays below 2**52
MAX_DIM = 1 << 16
_ITERATIONS = 12
_BATCH = 512  # vectors at a time: bounds the memory at 512 * dim * 24 bytes


@dataclass(frozen=True, eq=False)
class Space:
    """What takes a vector to its coordinates.

    Attributes:
        exponent: A vector is rounded to steps of 2**exponent.
        mean: int32 [dim], in those steps.
        axes: int32 [dim, coordinates], columns of length 2**26, or none: the coordinates are the components.
    """

    exponent: int
    mean: npt.NDArray[np.int32]
    axes: npt.NDArray[np.int32] | None

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        return len(self.mean)

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return self.dim if self.axes is None else self.axes.shape[1]

    def truncated(self, size: int) -> Self:
        """Return the space of the first `size` coordinates."""
        return replace(self, axes=None if self.axes is None else np.ascontiguousarray(self.axes[:, :size]))

    def coordinates(self, vectors: FloatArray) -> WholeNumbers:
        """Return the coordinates of vectors, float32 [n, dim] to whole numbers [n, size] in steps of 2**-25.

        A vector that is the mean has only zeros.

        Raises:
            HashingError: The vectors have another shape or a component that is not finite.
        """
        vectors = checked_vectors(vectors, self.dim)
        coordinates = np.empty((len(vectors), self.size))
        axes = None if self.axes is None else self.axes.astype(np.float64)
        for start in range(0, len(vectors), _BATCH):
            batch = slice(start, start + _BATCH)
            points = _rounded(vectors[batch], self.exponent)
            points -= self.mean
            lengths = np.sqrt(np.square(points).sum(axis=1, keepdims=True))
            points *= 2.0**POINT_BITS / np.maximum(lengths, 1.0)
            np.rint(points, out=points)
            coordinates[batch] = points if axes is None else np.rint(points @ axes * 2.0**-AXIS_BITS)
        return coordinates

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the mean, and the axes if there are any."""
        return {"mean": self.mean} | ({} if self.axes is None else {"axes": self.axes})


def fit_space(vectors: FloatArray, size: int | None) -> Space:
    """Return the space of a sample's first `size` principal axes, or of all components if None: [n, dim], n ≥ 1.

    Raises:
        HashingError: The vectors have another shape or a component that is not finite.
    """
    vectors = checked_vectors(vectors, None)
    dim = vectors.shape[1]
    longest = max(
        math.sqrt(np.square(vectors[start : start + _BATCH], dtype=np.float64).sum(axis=1).max())
        for start in range(0, len(vectors), _BATCH)
    )
    exponent = math.frexp(longest)[1] - input_bits(dim)
    total = np.zeros(dim)
    for start in range(0, len(vectors), _BATCH):
        total += _rounded(vectors[start : start + _BATCH], exponent).sum(axis=0)
    space = Space(exponent, np.rint(total / len(vectors)).astype(np.int32), None)
    if size is None:
        return space
    moments = np.zeros((dim, dim))
    for start in range(0, len(vectors), _BATCH):
        points = space.coordinates(vectors[start : start + _BATCH]) * 2.0**-POINT_BITS
        moments += points.T @ points
    return replace(space, axes=np.rint(_principal_axes(moments, min(size, dim)) * 2.0**AXIS_BITS).astype(np.int32))


def checked_vectors(vectors: FloatArray, dim: int | None) -> FloatArray:
    """Return vectors as float32 [n, dim]; `dim` None takes any, and asks for at least one vector.

    Raises:
        HashingError: They have another shape, or a component that is not finite.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if dim is None:
        if vectors.ndim != 2 or not len(vectors) or not 1 <= vectors.shape[1] <= MAX_DIM:
            raise HashingError(f"the sample has shape {vectors.shape}, expected [n, dim], n ≥ 1, 1 ≤ dim ≤ {MAX_DIM}")
    elif vectors.ndim != 2 or vectors.shape[1] != dim:
        raise HashingError(f"vectors have shape {vectors.shape}, expected [n, {dim}]: is the index of another model?")
    finite = np.isfinite(vectors)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise HashingError(
            f"vector {row} has {vectors[row, column]} at component {column}, expected finite numbers only"
        )
    return vectors


def input_bits(dim: int) -> int:
    """Return the bits of a rounded component: the squares of `dim` differences of two add up to at most 2**52."""
    return (50 - math.ceil(math.log2(dim))) // 2


def _principal_axes(moments: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Return the `size` eigenvectors of largest eigenvalue as columns, the largest first.

    By subspace iteration: for 24 axes of 2,048 it takes a fraction of the time that all eigenvectors take, and a hash
    loses nothing if the last axes are not quite eigenvectors yet.
    """
    block = np.random.default_rng(0).standard_normal((len(moments), min(2 * size, len(moments))))
    for _ in range(_ITERATIONS):
        block = np.linalg.qr(moments @ block)[0]
    rotation = np.linalg.eigh(block.T @ moments @ block)[1]
    return np.asarray((block @ rotation)[:, ::-1][:, :size])


def _rounded(vectors: FloatArray, exponent: int) -> WholeNumbers:
    """Return the components in whole steps of 2**exponent; one beyond all of the sample's is cut off."""
    limit = 2.0 ** input_bits(vectors.shape[1])
    steps = np.ldexp(vectors.astype(np.float64), -exponent)
    return np.clip(np.rint(steps, out=steps), -limit, limit, out=steps)
