"""The p-stable hash family: g(p) = ⟨h₁(p) … h_k(p)⟩ with h(p) = ⌊(p·X + b) / w⌋, in L tables, with multi-probe.

Datar, Immorlica, Indyk, Mirrokni: Locality-Sensitive Hashing Scheme Based on p-Stable Distributions, SCG 2004. p is a
point of `Space`, which has few coordinates where the sample was large enough for axes. The k directions X of a
table are Gaussian and then made orthogonal, as far as there are dimensions, each of length √d: one by one they are what
the paper has but for the length; together they measure nothing twice (Ji et al.: Super-Bit LSH, NIPS 2012).

Directions, offsets and width are whole numbers as the coordinates are, so that keys are exact: see `Space`.
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from shared.hashing.bucket_keys import MAX_TABLES, bucket_keys, slot_multipliers, slot_sums
from shared.hashing.multi_probe import perturbations
from shared.hashing.parameters import MAX_HASHES, FamilyParameters
from shared.hashing.registration import FamilyRegistration
from shared.hashing.space import AXIS_BITS, Space, WholeNumbers, checked_array, checked_integer
from shared.hashing.space_family import SpaceFamily
from shared.hashing.types import BucketKeys, HashingError, IntArray
from shared.search_limits import MAX_PROBES

FAMILY = "p-stable"
_MAX_WIDTH = 1 << 60
_BATCH = 1024  # vectors hashed at a time, and at most: bounds the memory


class PStableFamily(SpaceFamily):
    """p-stable hashing with query-directed multi-probe, made by `draw` or `from_parts`."""

    family = FAMILY

    def __init__(
        self,
        space: Space,
        directions: npt.NDArray[np.int32],
        offsets: IntArray,
        parameters: dict[str, Any],
    ) -> None:
        """Take over trained parts, which `from_parts` has checked.

        Args:
            space: What is hashed.
            directions: X, [coordinates, tables * hashes], columns of length 2**26.
            offsets: b, [tables * hashes], from 0 to width_steps - 1, in the steps of p·X.
            parameters: At least dim, tables, hashes, probes, exponent and width_steps.
        """
        super().__init__(space, parameters)
        self._directions, self._offsets = directions, offsets
        self._exact_directions = directions.astype(np.float64)
        self._hashes: int = parameters["hashes"]
        self._width: int = parameters["width_steps"]
        self._multipliers = slot_multipliers(self._hashes)

    @classmethod
    def draw(cls, space: Space, *, tables: int, hashes: int, width: float, probes: int, seed: int) -> Self:
        """Draw the directions and offsets of a family: the same for the same arguments.

        Args:
            space: What is hashed.
            tables: L.
            hashes: k, the hash functions of a table.
            width: w, in units of the length of a point, which is 1.
            probes: The buckets of a table that a query looks into by default.
            seed: Of directions and offsets.

        Raises:
            HashingError: A number is out of its range.
        """
        directions = _directions(space.size, tables, hashes, np.random.default_rng([seed, 0]))
        steps = width / space.size**0.5 * space.unit * 2.0**AXIS_BITS
        if not 1.0 <= steps <= _MAX_WIDTH:
            raise HashingError(
                f"slot width {width} is out of range, expected about a distance between vectors of length 1"
            )
        shares = np.random.default_rng([seed, 1]).random(tables * hashes)
        parameters = {
            "family": FAMILY,
            "tables": tables,
            "hashes": hashes,
            "probes": probes,
            "seed": seed,
            "width": width,
            "width_steps": int(steps),
        } | space.parameters()
        arrays = space.arrays() | {"directions": directions, "offsets": (shares * int(steps)).astype(np.int64)}
        return cls.from_parts(parameters, arrays)

    @classmethod
    def from_parts(cls, parameters: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Self:
        """Restore a family from what `parameters` and `arrays` gave.

        Raises:
            HashingError: A parameter or an array is missing, or is not of the type, shape and range that it must have.
        """
        tables = checked_integer(parameters, "tables", 1, MAX_TABLES)
        columns = tables * checked_integer(parameters, "hashes", 1, MAX_HASHES)
        width = checked_integer(parameters, "width_steps", 1, _MAX_WIDTH)
        checked_integer(parameters, "probes", 1, MAX_PROBES)
        space = Space.from_parts(parameters, arrays)
        directions = checked_array(arrays, "directions", np.int32, (space.size, columns), 1 << AXIS_BITS)
        offsets = checked_array(arrays, "offsets", np.int64, (columns,), width)
        return cls(space, directions, offsets, dict(parameters))

    def keys_at(self, coordinates: WholeNumbers) -> BucketKeys:
        """Return the buckets of points of the space: [n, coordinates] to uint64 [n, tables]."""
        keys: BucketKeys = np.empty((len(coordinates), self.tables), dtype=np.uint64)
        for start in range(0, len(coordinates), _BATCH):
            slots, _ = self._slots(coordinates[start : start + _BATCH])
            keys[start : start + _BATCH] = bucket_keys(slot_sums(slots, self._multipliers))
        return keys

    def probes_at(self, coordinates: WholeNumbers, probes: int | None = None) -> BucketKeys:
        """Return the buckets to look into for points of the space: [n, coordinates] to uint64 [n, tables, probes]."""
        probes = self._parameters["probes"] if probes is None else probes
        if not 1 <= probes <= MAX_PROBES:
            raise HashingError(f"{probes} probes, expected 1 (the home bucket alone) to {MAX_PROBES}")
        slots, inside = self._slots(coordinates)
        moves, _ = perturbations(inside / self._width, self._multipliers, probes)
        return bucket_keys(slot_sums(slots, self._multipliers)[..., None] + moves)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return mean, axes (if there are any), directions and offsets, all of whole numbers."""
        return self._space.arrays() | {"directions": self._directions, "offsets": self._offsets}

    def _slots(self, coordinates: WholeNumbers) -> tuple[IntArray, IntArray]:
        """Return the slot of each hash, and the place in it from 0 to width_steps - 1: int64 [n, tables, hashes]."""
        along = (coordinates @ self._exact_directions).astype(np.int64) + self._offsets
        slots, inside = np.divmod(along.reshape(len(coordinates), self.tables, self._hashes), self._width)
        return slots, inside


def _directions(size: int, tables: int, hashes: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Draw directions, those of a table orthogonal in blocks of `size`: [size, tables * hashes], of length 2**26."""
    blocks = -(-hashes // size)
    orthogonal = np.linalg.qr(rng.standard_normal((tables, blocks, size, min(size, hashes))))[0]
    columns = orthogonal.transpose(2, 0, 1, 3).reshape(size, tables, -1)[..., :hashes].reshape(size, tables * hashes)
    return np.rint(columns * 2.0**AXIS_BITS).astype(np.int32)


def draw_in_plain_space(space: Space, parameters: FamilyParameters, *, seed: int) -> PStableFamily:
    """Draw a family with a slot width in units of the vectors' own components: nothing is left to a tuner.

    Raises:
        HashingError: The tables, hashes, width or probes are not given, or are out of range.
    """
    tables, hashes, width, probes = parameters.tables, parameters.hashes, parameters.width, parameters.probes
    if tables is None or hashes is None or width is None or probes is None:
        raise HashingError("the plain space takes the p-stable family with tables, hashes, width, probes all given")
    scaled = width / (2.0**space.exponent * space.unit)
    family = PStableFamily.draw(space, tables=tables, hashes=hashes, width=scaled, probes=probes, seed=seed)
    return family.with_parameters(width=width)


REGISTRATION = FamilyRegistration(
    FAMILY,
    parameters=("tables", "hashes", "width", "probes"),
    restore=PStableFamily.from_parts,
    draw_in_plain_space=draw_in_plain_space,
)
