"""The parameters that hash families have: what each means, its range, and which of them are given.

A family with a parameter of a new kind adds it here, to `Parameter` names, `ParametersJson` and `FamilyParameters`.
"""

from dataclasses import dataclass
from typing import Literal

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.hashing.bucket_keys import MAX_TABLES
from shared.search_limits import MAX_PROBES

MAX_HASHES = 64
MAX_CELLS = 1 << 16

ParameterName = Literal["tables", "hashes", "width", "cells", "probes"]


@dataclass(frozen=True)
class Parameter:
    """A parameter of hash families.

    Attributes:
        name: Its name, as grids and reports have it.
        symbol: What it is called in formulas and tables.
        most: The largest value. Whole numbers begin at 1; others are above 0.
        whole: Whether it is a whole number.
    """

    name: ParameterName
    symbol: str
    most: float
    whole: bool = True


PARAMETERS = (
    Parameter("tables", "L", MAX_TABLES),
    Parameter("hashes", "k", MAX_HASHES),
    Parameter("width", "w", 1e9, whole=False),
    Parameter("cells", "cells", MAX_CELLS),
    Parameter("probes", "T", MAX_PROBES),
)
"""All parameters, in the order in which they are shown."""


class ParametersJson(TypedDict, total=False):
    """The parameters given for a hash family, as JSON."""

    tables: int
    hashes: int
    width: float
    cells: int
    probes: int


@dataclass(frozen=True, kw_only=True)
class FamilyParameters:
    """Parameters given for a hash family. None: the tuner chooses, or the family has no such parameter.

    Attributes:
        tables: L, the number of hash tables: each image is in one bucket of each.
        hashes: k, the hash functions of a table of the p-stable family.
        width: w, the slot width of the p-stable family.
        cells: The cells of a table of the Voronoi family.
        probes: T, the buckets of a table that a query looks into.
    """

    tables: int | None = None
    hashes: int | None = None
    width: float | None = None
    cells: int | None = None
    probes: int | None = None

    def given(self) -> ParametersJson:
        """Return the parameters that are given."""
        given = ParametersJson()
        if self.tables is not None:
            given["tables"] = self.tables
        if self.hashes is not None:
            given["hashes"] = self.hashes
        if self.width is not None:
            given["width"] = self.width
        if self.cells is not None:
            given["cells"] = self.cells
        if self.probes is not None:
            given["probes"] = self.probes
        return given
