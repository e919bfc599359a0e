"""What a search by the index costs: the model that the tuner weighs candidates and bucket look-ups by."""

from dataclasses import dataclass
from typing import TypedDict


class CostModelJson(TypedDict):
    """A `CostModel` as JSON."""

    base_ms: float
    lookup_ms: float
    member_ms: float
    candidate_ms: float
    hash_ms: float


@dataclass(frozen=True)
class CostModel:
    """Milliseconds of a search's parts, each proportional to a count.

    Attributes:
        base_ms: Of a request to the store, whatever it asks for.
        lookup_ms: Per bucket looked into.
        member_ms: Per id that a bucket gives, an id in two buckets twice.
        candidate_ms: Per candidate found in the copy of the segments and compared with the query.
        hash_ms: Per million products that hashing a query takes.
    """

    base_ms: float
    lookup_ms: float
    member_ms: float
    candidate_ms: float
    hash_ms: float

    def of(self, *, products: float, lookups: float, members: float, candidates: float) -> float:
        """Return the milliseconds that a search takes by these counts."""
        return (
            self.base_ms
            + self.hash_ms * products / 1e6
            + self.lookup_ms * lookups
            + self.member_ms * members
            + self.candidate_ms * candidates
        )

    def to_json(self) -> CostModelJson:
        """Return the model as JSON values."""
        return {
            "base_ms": self.base_ms,
            "lookup_ms": self.lookup_ms,
            "member_ms": self.member_ms,
            "candidate_ms": self.candidate_ms,
            "hash_ms": self.hash_ms,
        }


TYPICAL = CostModel(base_ms=0.2, lookup_ms=0.008, member_ms=0.0003, candidate_ms=0.001, hash_ms=0.2)
"""Two cores, Valkey on the same machine, 256 dimensions: for where none was measured."""
