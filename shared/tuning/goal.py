"""What an index is to reach, and how much a search by it may cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.hashing.families import FAMILIES
from shared.hashing.parameters import PARAMETERS, FamilyParameters
from shared.hashing.types import HashingError

RECALL_TARGET = 0.95
"""Share of the 10 nearest that the candidates are to hold."""

MAX_LOOKUPS = 64
"""Buckets that a query may look into, over all tables."""

MAX_CANDIDATE_SHARE = 0.027
"""Share of the collection that may be ranked."""

_MISSES_USED = 0.8  # of the misses that the goal allows: what the collection's own images may use


@dataclass(frozen=True, kw_only=True)
class Goal(FamilyParameters):
    """What an index is to be and to reach. The parameters of the family that are given are fixed.

    Attributes:
        seed: Of all that is drawn.
        recall: Share of the nearest by the exact scan that the candidates are to hold.
        max_lookups: Buckets that a query may look into.
        max_share: Share of the collection that may be ranked.
        keep_share: Whether the share is kept to even where the recall is then missed, instead of the other way round.
        families: Names of the families that may be chosen.
    """

    seed: int
    recall: float = RECALL_TARGET
    max_lookups: int = MAX_LOOKUPS
    max_share: float = MAX_CANDIDATE_SHARE
    keep_share: bool = False
    families: Sequence[str] = FAMILIES

    @property
    def survey_recall(self) -> float:
        """What the collection's own images are to find, so that queries from elsewhere find `recall`."""
        return 1 - _MISSES_USED * (1 - self.recall)

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            HashingError: A number is; the message names it.
        """
        for name, number, low in (("seed", self.seed, 0), ("max_lookups", self.max_lookups, 1)):
            if number < low:
                raise HashingError(f"{name} is {number}, expected at least {low}")
        given = self.given()
        for parameter in PARAMETERS:
            value = given.get(parameter.name)
            if parameter.whole and value is not None and not 1 <= value <= parameter.most:
                raise HashingError(f"{parameter.name} is {value}, expected 1 to {parameter.most}")
        for name, share in (("recall", self.recall), ("max_share", self.max_share)):
            if not 0 < share <= 1:
                raise HashingError(f"{name} is {share}, expected above 0 and at most 1")
        for family in self.families:
            if family not in FAMILIES:
                raise HashingError(f"hash family {family!r} is unknown, expected one of {', '.join(FAMILIES)}")
