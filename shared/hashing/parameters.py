"""The parameters that hash families have: what may be fixed, or left for the tuner to choose."""

from dataclasses import dataclass

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12


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
        probes: Buckets of a table that a query looks into.
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
