"""Outcomes: what became of the images of a batch, and why some were not taken."""

from collections import Counter
from collections.abc import Iterable, Mapping
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


_REJECTED = "rejected "


@dataclass(frozen=True)
class Counts:
    """What became of images, in numbers; `rejected` by code, with the first reason."""

    added: int = 0
    duplicates: int = 0
    affected: int = 0
    relabelled: int = 0
    labels_kept: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""

    @property
    def images(self) -> int:
        """Number of images accounted for."""
        return self.added + self.duplicates + sum(self.rejected.values())

    @classmethod
    def of(cls, amounts: Mapping[str, int], reason: str) -> "Counts":
        """Return the sum of what `Outcome.amounts` returned of each batch."""
        rejected = {
            name.removeprefix(_REJECTED): count for name, count in amounts.items() if name.startswith(_REJECTED)
        }
        others = {
            name: amounts.get(name, 0) for name in ("added", "duplicates", "affected", "relabelled", "labels_kept")
        }
        return cls(**others, rejected=dict(sorted(rejected.items())), reason=reason)


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

    @property
    def reasons(self) -> str:
        """Why images were not taken, in one text."""
        return "; ".join(rejection.reason for rejection in self.rejected)

    @property
    def amounts(self) -> dict[str, int]:
        """The numbers that `Counts` has, under names."""
        return {
            "added": sum(self.added.values()),
            "duplicates": self.duplicates,
            "affected": self.affected,
            "relabelled": self.relabelled,
            "labels_kept": self.labels_kept,
            **Counter(f"{_REJECTED}{rejection.code}" for rejection in self.rejected),
        }

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


def total_of(batches: Iterable[tuple[bytes, Outcome]]) -> Outcome:
    """Return the outcomes of several batches, each with the digits of its number, as one.

    Labels are in the order of the alphabet; what is named is in the order of the digits. A batch may come twice.
    """
    added: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    seen: set[bytes] = set()
    naming: dict[bytes, Outcome] = {}
    for number, outcome in batches:
        if number in seen:
            continue
        seen.add(number)
        added.update(outcome.added)
        sums.update(outcome.amounts)
        if outcome.rejected or outcome.damaged:
            naming[number] = outcome
    named = [naming[number] for number in sorted(naming)]
    return Outcome(
        added=dict(sorted(added.items())),
        duplicates=sums["duplicates"],
        rejected=tuple(rejection for outcome in named for rejection in outcome.rejected),
        affected=sums["affected"],
        relabelled=sums["relabelled"],
        labels_kept=sums["labels_kept"],
        damaged=tuple(name for outcome in named for name in outcome.damaged),
    )
