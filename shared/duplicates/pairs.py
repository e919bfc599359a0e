"""Verified pairs of images."""

from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

Way = Literal["identical", "re-encoded", "resized", "cropped", "mirrored", "retouched"]
"""`identical`: all pixels are; `re-encoded`: nothing but the coding differs. The others may come together."""

WAYS: Final[tuple[Way, ...]] = get_args(Way)


@dataclass(frozen=True)
class Pair:
    """Two images, of which `a` has the smaller id, that were found to show the same.

    Attributes:
        a: Id of the one.
        b: Id of the other.
        agreement: Correlation of the pictures where they are laid over each other, -1 to 1.
        inliers: Features that lie over each other; 0 where the pictures were compared by their pixels alone.
        score: Cosine similarity of their embeddings, by which they were found; 0 if another image led to them.
        ways: In which ways they differ.
    """

    a: int
    b: int
    agreement: float
    inliers: int
    score: float
    ways: tuple[Way, ...]

    @property
    def ids(self) -> tuple[int, int]:
        """Both ids, the smaller first."""
        return self.a, self.b

    def to_json(self) -> list[Any]:
        """Return what is stored of the pair."""
        return [self.a, self.b, self.agreement, self.inliers, self.score, list(self.ways)]

    @classmethod
    def from_json(cls, stored: list[Any]) -> Self:
        """Return the pair that `to_json` gave."""
        a, b, agreement, inliers, score, ways = stored
        return cls(int(a), int(b), float(agreement), int(inliers), float(score), tuple(ways))


def ordered(one: int, other: int) -> tuple[int, int]:
    """Return two ids, the smaller first: how a pair is named."""
    return (one, other) if one < other else (other, one)
