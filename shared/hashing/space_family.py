"""What the hash families have in common that hash points of a `Space`."""

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from shared.hashing.space import Space, WholeNumbers
from shared.hashing.types import BucketKeys, FloatArray, HashingError

_AT_ONCE = 8192  # vectors whose coordinates are in memory at a time


class SpaceFamily(ABC):
    """A `HashFamily` of a space: it hashes coordinates as well as vectors."""

    family: ClassVar[str]

    def __init__(self, space: Space, parameters: dict[str, Any]) -> None:
        """Take over the space, and parameters that have at least the tables and those of the space."""
        self._space, self._parameters = space, parameters
        self.dim = space.dim
        self.tables: int = parameters["tables"]

    def keys(self, vectors: FloatArray) -> BucketKeys:
        """Return the bucket of each vector in each table, as `HashFamily.keys`."""
        parts = [
            self.keys_at(self._space.coordinates(vectors[start : start + _AT_ONCE]))
            for start in range(0, max(1, len(vectors)), _AT_ONCE)  # coordinates take four times as much as float16
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def probes(self, vector: FloatArray, probes: int | None = None) -> BucketKeys:
        """Return the buckets to look into for a query, as `HashFamily.probes`."""
        if np.ndim(vector) != 1:
            raise HashingError(f"a query has shape {np.shape(vector)}, expected ({self.dim},): one vector")
        keys: BucketKeys = self.probes_of_each(np.asarray(vector)[None], probes)[0]
        return keys

    def probes_of_each(self, vectors: FloatArray, probes: int | None = None) -> BucketKeys:
        """Return the buckets to look into for each of some queries, as `HashFamily.probes_of_each`."""
        return self.probes_at(self._space.coordinates(vectors), probes)

    def every_key(self) -> BucketKeys | None:
        """Return all keys that there are, as `HashFamily.every_key`."""
        return None

    @abstractmethod
    def keys_at(self, coordinates: WholeNumbers) -> BucketKeys:
        """Return the buckets of points of the space: [n, coordinates] to uint64 [n, tables]."""

    @abstractmethod
    def probes_at(self, coordinates: WholeNumbers, probes: int | None = None) -> BucketKeys:
        """Return the buckets to look into for points of the space: [n, coordinates] to uint64 [n, tables, probes]."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the trained arrays, as `HashFamily.arrays`."""

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, as `HashFamily.parameters`."""
        return dict(self._parameters)

    def with_parameters(self, **parameters: object) -> Self:
        """Return the same hash with further parameters, or others for those that change no key."""
        family = copy.copy(self)  # it shares the arrays: a trial of each number of probes keeps a copy
        family._parameters = self._parameters | parameters  # noqa: SLF001 -- of this class
        return family
