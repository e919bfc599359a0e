"""Outcomes: what became of the images of a batch, and why some were not taken."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

NOT_SERVED = "not-served"
"""Code of the rejection that ends a change of model whose model is not served: nothing was changed."""
REFUSED = "refused"
"""Code of the rejection that ends a change of model or name which cannot be made: nothing was changed."""
LEFT = "left"
"""Code of the rejection of a deletion that could not remove all there is of an image: its reason says what is left."""
CANCELLED = "cancelled"
"""Code of the rejection that ends a job which was cancelled, or of an image that was not added any more."""
LOST = "lost"
"""Code of the rejection of what a job had on its way when its message was lost again and again."""


@dataclass(frozen=True)
class Rejection:
    """An image that was not taken: its name, a short code, and a sentence that says why and what helps."""

    name: str
    code: str
    reason: str


class OutcomeJson(TypedDict):
    """An outcome as JSON values; a rejection as its name, code and reason."""

    added: dict[str, int]
    duplicates: int
    rejected: list[list[str]]
    affected: int
    relabelled: NotRequired[int]
    labels_kept: NotRequired[int]
    damaged: NotRequired[list[str]]


@dataclass(frozen=True)
class Outcome:
    """What became of one batch."""

    added: dict[str, int] = field(default_factory=dict)  # label ("" for none) to number of images
    duplicates: int = 0
    rejected: tuple[Rejection, ...] = ()
    affected: int = 0  # images that a job of another kind removed or restored
    relabelled: int = 0  # duplicates that have another label by now
    labels_kept: int = 0  # duplicates that have kept their label, though they were handed in with another
    damaged: tuple[str, ...] = ()  # names of images that were added though a part of them was lost

    @property
    def images(self) -> int:
        """Number of images accounted for."""
        return sum(self.added.values()) + self.duplicates + len(self.rejected)

    def to_json(self) -> OutcomeJson:
        """Return the outcome as JSON values."""
        rejected = [[item.name, item.code, item.reason] for item in self.rejected]
        value = OutcomeJson(added=self.added, duplicates=self.duplicates, rejected=rejected, affected=self.affected)
        if self.relabelled or self.labels_kept:
            value |= {"relabelled": self.relabelled, "labels_kept": self.labels_kept}
        if self.damaged:
            value["damaged"] = list(self.damaged)
        return value

    @classmethod
    def from_json(cls, value: OutcomeJson) -> "Outcome":
        """Return the outcome that `to_json` wrote."""
        rejected = tuple(Rejection(*item) for item in value["rejected"])
        return cls(
            value["added"],
            value["duplicates"],
            rejected,
            value["affected"],
            value.get("relabelled", 0),
            value.get("labels_kept", 0),
            tuple(value.get("damaged", ())),
        )


def total_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcomes of several batches as one; labels in the order of the alphabet."""
    added: Counter[str] = Counter()
    for outcome in outcomes:
        added.update(outcome.added)
    rejected = tuple(rejection for outcome in outcomes for rejection in outcome.rejected)
    return Outcome(
        added=dict(sorted(added.items())),
        duplicates=sum(outcome.duplicates for outcome in outcomes),
        rejected=rejected,
        affected=sum(outcome.affected for outcome in outcomes),
        relabelled=sum(outcome.relabelled for outcome in outcomes),
        labels_kept=sum(outcome.labels_kept for outcome in outcomes),
        damaged=tuple(name for outcome in outcomes for name in outcome.damaged),
    )
