"""What a hash family is: the types that the index and the search are written against."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid

FloatArray = npt.NDArray[np.float32]
BucketKeys = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]


class HashingError(Invalid):
    """A vector that cannot be hashed, or parameters that make no hash family."""


class HashFamily(Protocol):
    """A trained hash: it puts each vector into one bucket per table and names the buckets where its neighbours may lie.

    Two families restored from the same parameters and arrays give the same keys.
    """

    @property
    def family(self) -> str:
        """The kind of the family, as `fit` takes it."""

    @property
    def dim(self) -> int:
        """The number of components of a vector."""

    @property
    def tables(self) -> int:
        """The number of tables: each vector is in one bucket of each."""

    def keys(self, vectors: FloatArray) -> BucketKeys:
        """Return the bucket of each vector in each table: float32 [n, dim] to uint64 [n, tables].

        A vector's keys depend on nothing but the vector: not on the others of its batch, nor on the machine.

        Raises:
            HashingError: The vectors have another shape than [n, dim], or a component that is not finite.
        """

    def probes(self, vector: FloatArray, probes: int | None = None) -> BucketKeys:
        """Return the buckets to look into for a query: float32 [dim] to uint64 [tables, probes].

        In each table the most promising comes first: the one that `keys` gives. None takes the number of probes that
        was fitted. A table with fewer buckets in reach gives those it has; a bucket may come twice.

        Raises:
            HashingError: The vector is no [dim] of finite numbers, or the number of probes is out of range.
        """

    def probes_of_each(self, vectors: FloatArray, probes: int | None = None) -> BucketKeys:
        """Return what `probes` does for each of some queries: float32 [n, dim] to uint64 [n, tables, probes].

        Raises:
            HashingError: As `probes` does.
        """

    def every_key(self) -> BucketKeys | None:
        """Return all keys that there are, a column for each table: uint64 [n, tables]; None if they are too many."""

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, of JSON's own types: the seed, what the sample led to and what was measured on it."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the trained arrays by name: with the parameters all that `from_parts` needs."""
