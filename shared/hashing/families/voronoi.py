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
_SCORES = 1 << 22  # computed at a time: 16 MB
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
        # |p - c|² is smallest where p·c - |c|²/2 is largest.
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
        whole = np.clip(np.rint(centroids * 2.0**_BITS), -_LIMIT, _LIMIT).astype(np.int32)
        return cls.from_parts(parameters | space.parameters(), space.arrays() | {"centroids": whole})

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

    def keys_at(self, coordinates: WholeNumbers) -> BucketKeys:
        """Return the cells of points of the space: [n, coordinates] to uint64 [n, tables]."""
        keys: BucketKeys = np.empty((len(coordinates), self.tables), dtype=np.uint64)
        batch = max(1, _SCORES // max(self._centroids.shape[1:]))
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
        batch = max(1, _SCORES // cells)
        for start in range(0, len(coordinates), batch):
            points = np.rint(coordinates[start : start + batch] * self._step)
            for table in range(self.tables):
                scores = self._scores(points, table)
                home = self._nearest(points, scores, table)
                scores[np.arange(len(points)), home] = np.inf  # the first, whatever single precision makes of it
                least = np.partition(scores, cells - count, axis=1)[:, cells - count]
                for row, (its, enough) in enumerate(zip(scores, least, strict=True), start):
                    # Of cells with the same score the first ones, so that fewer probes are the first of more.
                    near = np.flatnonzero(its >= enough)
                    keys[row, table] = near[np.argsort(-its[near], kind="stable")[:count]]
        return keys

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return mean, axes (if there are any) and centroids, all of whole numbers."""
        return self._space.arrays() | {"centroids": self._centroids}

    def _scores(self, points: WholeNumbers, table: int) -> FloatArray:
        scores: FloatArray = points.astype(np.float32) @ self._single[table].T
        scores -= self._single_half[table]
        return scores

    def _nearest(self, points: WholeNumbers, scores: FloatArray, table: int) -> npt.NDArray[np.intp]:
        """Return the number of the nearest centroid of each point, by scores that single precision has rounded."""
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


def k_means(
    points: FloatArray, cells: int, *, rng: np.random.Generator, iterations: int = 6
) -> npt.NDArray[np.float64]:
    """Return the centroids of a k-means by Lloyd's algorithm, [cells, coordinates], from points [n ≥ 1, coordinates].

    It starts at points drawn at random. A cell that loses all its points starts again at a point of a crowded one.
    """
    cells = min(cells, len(points))
    centroids = points[rng.choice(len(points), cells, replace=False)].astype(np.float32)
    for _ in range(iterations):
        home = _assign(points, centroids)
        counts = np.bincount(home, minlength=cells)
        order = np.argsort(home, kind="stable")
        used = np.flatnonzero(counts)
        starts = np.concatenate([[0], np.cumsum(counts[used])[:-1]])
        centroids[used] = np.add.reduceat(points[order], starts, axis=0) / counts[used, None].astype(np.float32)
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            crowded = counts[home] / counts[home].sum()
            centroids[empty] = points[rng.choice(len(points), len(empty), p=crowded)]
    return centroids.astype(np.float64)


def _assign(points: FloatArray, centroids: FloatArray) -> npt.NDArray[np.intp]:
    half = np.einsum("cd,cd->c", centroids, centroids) / 2
    home = np.empty(len(points), dtype=np.intp)
    batch = max(1, _SCORES // len(centroids))
    for start in range(0, len(points), batch):
        scores = points[start : start + batch] @ centroids.T
        scores -= half
        home[start : start + batch] = scores.argmax(axis=1)
    return home


REGISTRATION = FamilyRegistration(FAMILY, parameters=("tables", "cells", "probes"), restore=VoronoiFamily.from_parts)
