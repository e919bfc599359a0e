"""What a search for duplicates found, as it is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from shared.duplicates.pairs import Pair


@dataclass(frozen=True)
class DuplicateReport:
    """What a search for duplicates found.

    Attributes:
        id: Its id, which is that of its job.
        created: When it began, RFC 3339.
        seconds: How long it took.
        program: The version of the program.
        images: Images of the collection that were looked at.
        compared: Pairs that were compared.
        unreadable: Images whose picture could not be read.
        pairs: The pairs that show the same.
    """

    id: str
    created: str
    seconds: float
    program: str
    images: int
    compared: int
    unreadable: int
    pairs: tuple[Pair, ...]

    def without(self, ids: set[int]) -> "DuplicateReport":
        """Return the report without pairs of some images."""
        kept = tuple(pair for pair in self.pairs if not ids.intersection(pair.ids))
        return type(self)(**{**vars(self), "pairs": kept})

    def to_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return {**vars(self), "pairs": [pair.to_json() for pair in self.pairs]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return what was stored."""
        return cls(**{**stored, "pairs": tuple(Pair.from_json(pair) for pair in stored["pairs"])})
