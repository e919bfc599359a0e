"""The space that is hashed: vectors scaled to length 1, less their mean, on the sample's first principal axes.

For Euclidean distances lengths count, so vectors are then taken as they are.

Coordinates are exact. A vector is rounded to whole steps first, and mean and axes are whole numbers too; every sum
stays within the 53 bits that a float64 holds exactly. So a sum does not depend on the order of adding, and a vector has
the same coordinates alone or in a batch, whatever the BLAS, its threads and the machine. What else is done (multiply,
divide, root, round) is done number by number, which IEEE 754 rounds in one way.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from shared.hashing.types import FloatArray, HashingError

WholeNumbers = npt.NDArray[np.float64]
"""Whole numbers held as float64, for the sake of BLAS."""

Scaling = Literal["before", "none"]
"""When vectors are scaled to length 1: before the mean is subtracted, or not at all."""

POINT_BITS = 25  # coordinates are in steps of 2**-25 of the length that points are scaled to
AXIS_BITS = 26  # an axis has length 2**26, so that point times axis stays below 2**52
MAX_DIM = 1 << 16
_ITERATIONS = 12
_BATCH = 512  # vectors at a time: bounds the memory at 512 * dim * 24 bytes


@dataclass(frozen=True, eq=False)
class Space:
    """The projected space that hash families hash: it takes a vector to its coordinates.

    Attributes:
        exponent: A vector is rounded to steps of 2**exponent; where it is scaled before, to such steps of the power of
            two above its greatest component, since its length is to tell nothing.
        scaling: When it is scaled to length 1, if at all.
        mean: int32 [dim]; in those steps, or in steps of 2**-25 of the length where vectors are scaled before.
        axes: int32 [dim, coordinates], columns of length 2**26, or none: the coordinates are the components.
    """

    exponent: int
    scaling: Scaling
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

    @property
    def unit(self) -> float:
        """The length, in steps of a coordinate, that points are scaled to, or which none of the sample's exceeds."""
        return 2.0 ** (input_bits(self.dim) if self.scaling == "none" else POINT_BITS)

    @cached_property
    def _exact_axes(self) -> npt.NDArray[np.float64] | None:
        """The axes as float64, kept: to convert them takes longer than to project a query."""
        return None if self.axes is None else self.axes.astype(np.float64)

    def truncated(self, size: int) -> Self:
        """Return the space of the first `size` coordinates."""
        return replace(self, axes=None if self.axes is None else np.ascontiguousarray(self.axes[:, :size]))

    def coordinates(self, vectors: FloatArray) -> WholeNumbers:
        """Return the coordinates of vectors, float32 [n, dim] to whole numbers [n, size], below 2**26.

        A vector that is the mean has only zeros.

        Raises:
            HashingError: The vectors have another shape or a component that is not finite.
        """
        vectors = checked_vectors(vectors, self.dim)
        coordinates = np.empty((len(vectors), self.size))
        axes = self._exact_axes
        for start in range(0, len(vectors), _BATCH):
            batch = slice(start, start + _BATCH)
            points = _rounded(vectors[batch], self.exponent, relative=self.scaling == "before")
            if self.scaling == "before":
                _scale(points)
            points -= self.mean
            coordinates[batch] = points if axes is None else np.rint(points @ axes * 2.0**-AXIS_BITS)
        return coordinates

    def parameters(self) -> dict[str, Any]:
        """Return what `from_parts` needs beside the arrays."""
        return {"dim": self.dim, "exponent": self.exponent, "scaling": self.scaling}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the mean, and the axes if there are any."""
        return {"mean": self.mean} | ({} if self.axes is None else {"axes": self.axes})

    @classmethod
    def from_parts(cls, parameters: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Self:
        """Restore a space from what `parameters` and `arrays` gave.

        Raises:
            HashingError: A part is missing, or is not of the type, shape and range that it must have.
        """
        dim = checked_integer(parameters, "dim", 1, MAX_DIM)
        exponent = checked_integer(parameters, "exponent", -256, 256)
        scaling: Any = parameters.get("scaling")
        if scaling not in get_args(Scaling):
            raise HashingError(f"parameter scaling is {scaling!r}, expected one of {', '.join(get_args(Scaling))}")
        mean = checked_array(
            arrays, "mean", np.int32, (dim,), 1 << (POINT_BITS if scaling == "before" else input_bits(dim))
        )
        axes = None
        if "axes" in arrays:
            shape = np.shape(arrays["axes"])
            axes = checked_array(arrays, "axes", np.int32, (dim, shape[-1] if shape else 0), 1 << AXIS_BITS)
        return cls(exponent, scaling, mean, axes)


def fit_space(vectors: FloatArray, size: int | None, *, scaling: Scaling = "before") -> Space:
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
    exponent = (0 if scaling == "before" else math.frexp(longest)[1]) - input_bits(dim)
    bare = Space(exponent, scaling, np.zeros(dim, dtype=np.int32), None)
    total = np.zeros(dim)
    for start in range(0, len(vectors), _BATCH):
        total += bare.coordinates(vectors[start : start + _BATCH]).sum(axis=0)
    space = Space(exponent, scaling, np.rint(total / len(vectors)).astype(np.int32), None)
    if size is None:
        return space
    moments = np.zeros((dim, dim))
    for start in range(0, len(vectors), _BATCH):
        points = space.coordinates(vectors[start : start + _BATCH]) / space.unit
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


def checked_integer(parameters: dict[str, Any], name: str, low: int, high: int) -> int:
    """Return a parameter if it is an integer in the range.

    Raises:
        HashingError: It is missing or something else.
    """
    value = parameters.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise HashingError(f"parameter {name} is {value!r}, expected an integer from {low} to {high}")
    return value


def checked_array(
    arrays: dict[str, npt.NDArray[Any]], name: str, dtype: type[np.integer[Any]], shape: tuple[int, ...], limit: int
) -> npt.NDArray[Any]:
    """Return an array if it has this type and shape, and nothing beyond the limit.

    Raises:
        HashingError: It is missing or something else.
    """
    if name not in arrays:
        raise HashingError(f"array {name} is missing, there are only {sorted(arrays)}: not what a hash family stored")
    array = np.asarray(arrays[name])
    if array.dtype != dtype or array.shape != shape:
        raise HashingError(f"array {name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    if array.size and int(np.abs(array).max()) > limit:
        raise HashingError(f"array {name} has {int(np.abs(array).max())}, expected at most {limit}")
    return array


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


def _scale(points: WholeNumbers) -> None:
    """Scale points to length 1 in steps of 2**-25, in place; zeros stay."""
    lengths = np.sqrt(np.square(points).sum(axis=1, keepdims=True))
    points *= 2.0**POINT_BITS / np.maximum(lengths, 1.0)
    np.rint(points, out=points)


def _rounded(vectors: FloatArray, exponent: int, *, relative: bool) -> WholeNumbers:
    """Return the components in whole steps of 2**exponent; one beyond all of the sample's is cut off.

    With `relative`, the exponent is added to that of each vector's greatest component.
    """
    limit = 2.0 ** input_bits(vectors.shape[1])
    exponents = exponent + np.frexp(np.abs(vectors).max(axis=1, keepdims=True))[1] if relative else exponent
    steps = np.ldexp(vectors.astype(np.float64), -exponents)
    return np.clip(np.rint(steps, out=steps), -limit, limit, out=steps)
