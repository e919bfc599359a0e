"""What a verification may find: the kinds of damage, what they mean, which of them a rebuild mends; and the report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from typing_extensions import TypedDict

from shared.state.verifications import FoundDamage

Kind = Literal[
    "manifest-unreadable",
    "manifest-missing",
    "segment-damaged",
    "segment-missing",
    "segment-unindexed",
    "row-twice",
    "claim-missing",
    "claim-wrong",
    "claim-without-row",
    "index-state-wrong",
    "generation-damaged",
    "bucket-incomplete",
    "bucket-surplus",
    "tombstone-without-segment",
    "tombstones-unreadable",
    "merge-unfinished",
    "original-missing",
    "original-damaged",
    "original-unheld",
    "link-missing",
    "link-changed",
    "trash-original-missing",
    "trash-unreadable",
    "replica-differs",
    "evaluation-unreadable",
    "evaluation-leftover",
    "query-set-unreadable",
    "query-missing",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

REBUILT: frozenset[Kind] = frozenset(
    {
        "segment-unindexed",
        "row-twice",
        "claim-missing",
        "claim-wrong",
        "claim-without-row",
        "index-state-wrong",
        "generation-damaged",
        "bucket-incomplete",
    }
)
"""The kinds that a rebuild of the collection's index mends."""

OF_LINKS: frozenset[Kind] = frozenset({"link-missing", "link-changed"})
"""The kinds of linked originals."""

TOLD_BY_REPAIR: frozenset[Kind] = frozenset({"segment-missing", "original-damaged", "link-missing", "link-changed"})
"""The kinds that a later verification need not find again: no manifest names a segment that is gone, and originals are
not read twice. So a repair tells what it could not mend."""

MEANINGS: Mapping[Kind, str] = {
    "manifest-unreadable": "the collection's manifest cannot be read; restore it from a backup",
    "manifest-missing": "there are segments of a collection that has no manifest",
    "segment-damaged": "a segment cannot be read, so its images are not found; restore it from a backup",
    "segment-missing": "a segment is gone; restore it from a backup, or its images from the trash after a rebuild",
    "segment-unindexed": "the images of a segment are in no index",
    "row-twice": "an image is in two segments",
    "claim-missing": "Redis does not know that an image is in the collection",
    "claim-wrong": "Redis has an image in another segment than the object store",
    "claim-without-row": "Redis counts an image as added that the object store does not have",
    "index-state-wrong": "Redis and the object store name different generations of the index",
    "generation-damaged": "the generation in use cannot be read",
    "bucket-incomplete": "an image is not in all of its buckets",
    "bucket-surplus": "buckets hold images that are gone",
    "tombstone-without-segment": "tombstones of segments that are gone",
    "tombstones-unreadable": "a list of deleted rows cannot be read; restore it from a backup",
    "merge-unfinished": "a merge of segments was begun and not finished",
    "original-missing": "the original of an image is gone; add the file again",
    "original-damaged": "an original is not what its name says; add the file again, or restore it from a backup",
    "original-unheld": "an original that no collection, trash or upload holds",
    "link-missing": "the file of a linked original cannot be read: mount its folder, name it in ARTSEEK_LINK_ROOTS "
    "here, or sync the folder that the file is in now",
    "link-changed": "the file of a linked original has other content: put the old one back, or sync its folder",
    "trash-original-missing": "the original of an image in the trash is gone, so that it cannot be restored",
    "trash-unreadable": "a list of deleted images cannot be read; restore it from a backup",
    "replica-differs": "the query service does not serve what the object store has",
    "evaluation-unreadable": "an evaluation cannot be read; delete it",
    "evaluation-leftover": "parts of an evaluation, or a search for duplicates, that is not under way",
    "query-set-unreadable": "a query set cannot be read",
    "query-missing": "the original of a query is gone; send the query set again",
}

_EXAMPLES = 5


class FindingJson(TypedDict):
    """A kind of damage in a collection: how many things have it, some of them, and whether it is mended."""

    kind: Kind
    collection: str | None
    count: int
    repaired: bool
    meaning: str
    examples: list[str]


class VerificationJson(TypedDict):
    """What a verification found. `ok`: nothing is damaged, or all that was is mended."""

    ok: bool
    findings: list[FindingJson]
    collections: int
    images: int
    originals: int
    originals_read: int


@dataclass(frozen=True)
class Finding:
    """Damage of a kind.

    Attributes:
        kind: The kind.
        collection: The collection; None for what belongs to none.
        keys: What is damaged: image ids, segments, digests or keys of objects.
        repaired: Whether it is mended.
    """

    kind: Kind
    collection: str | None
    keys: frozenset[str]
    repaired: bool = False

    def to_json(self) -> FindingJson:
        """Return the finding as JSON values."""
        return {
            "kind": self.kind,
            "collection": self.collection,
            "count": len(self.keys),
            "repaired": self.repaired,
            "meaning": MEANINGS[self.kind],
            "examples": sorted(self.keys)[:_EXAMPLES],
        }


@dataclass(frozen=True)
class Report:
    """What a verification found, and how much it has looked at."""

    findings: tuple[Finding, ...] = ()
    collections: int = 0
    images: int = 0
    originals: int = 0
    originals_read: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged, or all that was is mended."""
        return all(finding.repaired for finding in self.findings)

    def damage(self) -> tuple[FoundDamage, ...]:
        """Return what is not mended, to be kept as the last verification."""
        return tuple(
            FoundDamage(finding.kind, finding.collection, len(finding.keys), MEANINGS[finding.kind])
            for finding in self.findings
            if not finding.repaired
        )

    def to_json(self) -> VerificationJson:
        """Return the report as JSON values."""
        return {
            "ok": self.ok,
            "findings": [finding.to_json() for finding in self.findings],
            "collections": self.collections,
            "images": self.images,
            "originals": self.originals,
            "originals_read": self.originals_read,
        }

    def after_repair(self, later: "Report", lost: Mapping[str, frozenset[str]]) -> "Report":
        """Return this report, in which everything that a later one no longer finds is mended, but for what is lost.

        `lost` is what a repair could not mend of each collection, of the kinds `TOLD_BY_REPAIR`: segments and digests.
        """
        left = {(finding.kind, finding.collection): finding.keys for finding in later.findings}
        findings: list[Finding] = []
        for finding in self.findings:
            still = finding.keys & left.get((finding.kind, finding.collection), frozenset())
            if finding.kind in TOLD_BY_REPAIR:
                still |= finding.keys & lost.get(finding.collection or "", frozenset())
            for keys, repaired in ((finding.keys - still, True), (still, False)):
                if keys:
                    findings.append(replace(finding, keys=keys, repaired=repaired))
        known = {(finding.kind, finding.collection) for finding in self.findings}
        new = [finding for finding in later.findings if (finding.kind, finding.collection) not in known]
        return replace(self, findings=tuple(findings + new))


@dataclass
class Damage:
    """What a pass over the stores found, by kind and collection."""

    found: dict[tuple[Kind, str | None], set[str]] = field(default_factory=dict)

    def add(self, kind: Kind, collection: str | None, keys: Iterable[object]) -> None:
        """Note damage."""
        texts = {str(key) for key in keys}
        if texts:
            self.found.setdefault((kind, collection), set()).update(texts)

    def in_both(self, other: "Damage") -> "Damage":
        """Return what two passes found: what only one did was on its way."""
        both = {place: keys & other.found[place] for place, keys in self.found.items() if place in other.found}
        return Damage({place: keys for place, keys in both.items() if keys})

    def findings(self) -> tuple[Finding, ...]:
        """Return the findings, by collection, then by kind."""
        order = {kind: place for place, kind in enumerate(KINDS)}
        places = sorted(self.found, key=lambda place: (place[1] or "", order[place[0]]))
        return tuple(Finding(kind, collection, frozenset(self.found[kind, collection])) for kind, collection in places)
