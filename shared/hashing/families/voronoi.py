"""The Voronoi family: the bucket of a vector is the cell of the nearest centroid, in one table or several.

With one table it is what FAISS and others call IVF, an inverted file: cells are its lists, probes its ``nprobe``.

Paulevé, Jégou, Amsaleg: Locality sensitive hashing: a comparison of hash function types and querying mechanisms,
Pattern Recognition Letters 31 (2010). The centroids of each table come from a k-means of its own; a query looks into
the cells of the nearest centroids, in the order of their distances.

Centroids are whole numbers as the coordinates are, so that the cell of a vector is exact: single precision narrows the
centroids down to those within its error, whole numbers decide among them, and of equally near ones the first is taken.
"""

import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from shared.hashing.bucket_keys import MAX_TABLES
from shared.hashing.parameters import MAX_CELLS
from shared.hashing.registration import FamilyRegistration
from shared.hashing.space import Space, WholeNumbers, checked_array, checked_integer
from shared.hashing.space_family import SpaceFamily
from shared.hashing.types import BucketKeys, FloatArray, HashingError

FAMILY = "voronoi"
_BITS = 18  # of a coordinate: the length of a point is 2**18 steps, so that every sum stays below 2**53
_LIMIT = 1 << (_BITS + 1)  # of a centroid's coordinate
_SCORES_AT_ONCE = 1 << 22  # 16 MB
_ROUNDING = 2.0**-24


class VoronoiFamily(SpaceFamily):
    """Cells of k-means centroids, made by `from_centroids` or `from_parts`."""

    family = FAMILY

    def __init__(self, space: Space, centroids: npt.NDArray[np.int32], parameters: dict[str, Any]) -> None:
        """Take over trained parts, which `from_parts` has checked.

        Args:
            space: Where the cells lie.
            centroids: [tables, cells, coordinates], in steps of 2**-18 of the space's unit.
            parameters: At least tables, cells, probes and those of the space.
        """
        super().__init__(space, parameters)
        self._centroids = centroids
        self._step = 2.0 ** (_BITS - math.log2(space.unit))
        # |p - c|² is smallest where the score p·c - |c|²/2 is largest.
        self._single = centroids.astype(np.float32)
        squares = np.einsum("tcd,tcd->tc", centroids, centroids, dtype=np.float64)
        self._half: npt.NDArray[np.float64] = squares / 2
        self._single_half = self._half.astype(np.float32)
        self._longest = float(np.sqrt(squares.max()))

    @classmethod
    def from_centroids(cls, space: Space, centroids: npt.NDArray[np.float64], *, probes: int, seed: int) -> Self:
        """Make a family of centroids, [tables, cells, coordinates] in units of the space."""
        tables, cells, _ = centroids.shape
        parameters = {"family": FAMILY, "tables": tables, "cells": cells, "probes": probes, "seed": seed}
        # Lengths that are not scaled may be beyond those that the space was fitted to: such a cell is drawn nearer.
        steps = np.clip(np.rint(centroids * 2.0**_BITS), -_LIMIT, _LIMIT).astype(np.int32)
        return cls.from_parts(parameters | space.parameters(), space.arrays() | {"centroids": steps})

    @classmethod
    def from_parts(cls, parameters: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Self:
        """Restore a family from what `parameters` and `arrays` gave.

        Raises:
            HashingError: A parameter or an array is missing, or is not of the type, shape and range that it must have.
        """
        tables = checked_integer(parameters, "tables", 1, MAX_TABLES)
        cells = checked_integer(parameters, "cells", 1, MAX_CELLS)
        checked_integer(parameters, "probes", 1, MAX_CELLS)
        space = Space.from_parts(parameters, arrays)
        centroids = checked_array(arrays, "centroids", np.int32, (tables, cells, space.size), _LIMIT)
        return cls(space, centroids, dict(parameters))

    def every_key(self) -> BucketKeys | None:
        """Return the numbers of all cells: uint64 [cells, tables]."""
        cells = np.arange(self._centroids.shape[1], dtype=np.uint64)
        return np.repeat(cells[:, None], self.tables, axis=1)

    def keys_at(self, coordinates: WholeNumbers) -> BucketKeys:
        """Return the cells of points of the space: [n, coordinates] to uint64 [n, tables]."""
        keys: BucketKeys = np.empty((len(coordinates), self.tables), dtype=np.uint64)
        batch = max(1, _SCORES_AT_ONCE // max(self._centroids.shape[1:]))
        for start in range(0, len(coordinates), batch):
            points = np.rint(coordinates[start : start + batch] * self._step)
            for table in range(self.tables):
                scores = self._scores(points, table)
                keys[start : start + batch, table] = self._nearest(points, scores, table)
        return keys

    def probes_at(self, coordinates: WholeNumbers, probes: int | None = None) -> BucketKeys:
        """Return the cells to look into for points of the space: [n, coordinates] to uint64 [n, tables, probes]."""
        probes = self._parameters["probes"] if probes is None else probes
        if not 1 <= probes <= MAX_CELLS:
            raise HashingError(f"{probes} probes, expected 1 (the home cell alone) to {MAX_CELLS}")
        cells = self._centroids.shape[1]
        count = min(probes, cells)
        keys: BucketKeys = np.empty((len(coordinates), self.tables, count), dtype=np.uint64)
        batch = max(1, _SCORES_AT_ONCE // cells)
        for start in range(0, len(coordinates), batch):
            points = np.rint(coordinates[start : start + batch] * self._step)
            for table in range(self.tables):
                scores = self._scores(points, table)
                home = self._nearest(points, scores, table)
                scores[np.arange(len(points)), home] = np.inf  # the first, whatever single precision makes of it
                keys[start : start + batch, table] = _highest(scores, count)
        return keys

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return mean, axes (if there are any) and centroids, all of whole numbers."""
        return self._space.arrays() | {"centroids": self._centroids}

    def _scores(self, points: WholeNumbers, table: int) -> FloatArray:
        """Return the score of each cell for each point, the nearest highest, in single precision: [n, cells]."""
        scores: FloatArray = points.astype(np.float32) @ self._single[table].T
        scores -= self._single_half[table]
        return scores

    def _nearest(self, points: WholeNumbers, scores: FloatArray, table: int) -> npt.NDArray[np.intp]:
        """Return the cell of the nearest centroid of each point: of those nearest by score, the one nearest exactly."""
        nearest: npt.NDArray[np.intp] = scores.argmax(axis=1)
        top = scores[np.arange(len(points)), nearest]
        lengths = np.sqrt(np.square(points).sum(axis=1))
        # Twice what a sum of so many products and the subtraction may be off by, for each of the two compared.
        slack = 4 * _ROUNDING * (self._space.size + 4) * (lengths + self._longest) * self._longest
        near = scores >= (top - slack.astype(np.float32))[:, None]
        for row in np.flatnonzero(np.count_nonzero(near, axis=1) > 1):
            contenders = np.flatnonzero(near[row])
            exact = self._centroids[table, contenders].astype(np.float64) @ points[row] - self._half[table, contenders]
            nearest[row] = contenders[exact.argmax()]
        return nearest


def _highest(scores: FloatArray, count: int) -> npt.NDArray[np.intp]:
    """Return the places of the highest scores of each row, the highest first: [n, cells] to [n, count].

    Of the same scores the first ones are taken, so that fewer are always the first of more.
    """
    cells = scores.shape[1]
    thresholds = np.partition(scores, cells - count, axis=1)[:, cells - count]
    near = scores >= thresholds[:, None]
    flat = np.nonzero(near)[1]
    if len(flat) != count * len(scores):  # some rows have the threshold more than once
        highest = np.empty((len(scores), count), dtype=np.intp)
        for row, (row_scores, is_near) in enumerate(zip(scores, near, strict=True)):
            row_places = np.flatnonzero(is_near)
            highest[row] = row_places[np.argsort(-row_scores[row_places], kind="stable")[:count]]
        return highest
    places = flat.reshape(-1, count)
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


REGISTRATION = FamilyRegistration(FAMILY, parameters=("tables", "cells", "probes"), restore=VoronoiFamily.from_parts)
