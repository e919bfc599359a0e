"""Brings a collection in step with a folder. It may be stopped at any moment and run again: the end is the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict

from services.producer.ingest import IngestAnswer, RejectedFile
from services.producer.sync.digest_cache import DigestCache
from services.producer.sync.plan import FolderComparison, Notes, Plan, StoredImage
from services.producer.sync.scan import FoundFile, Scan, ScanOptions, scan
from shared.errors import ArtseekError
from shared.folders import Source, readable
from shared.images import REASONS

NOTED_AT_ONCE = 2000  # contents
_KEPT_REFUSALS = REASONS | {"set-aside"}


class Vanished(ArtseekError):
    """More files have vanished than may; nothing was changed."""


class MovedFile(TypedDict):
    """A file that lies elsewhere now."""

    before: str
    after: str


class SkippedFile(TypedDict):
    """A file that was passed over, and its kind."""

    file: str
    kind: str


class SyncFiles(TypedDict):
    """The files of each outcome, by their paths below the folder."""

    new: list[str]
    changed: list[str]
    moved: list[MovedFile]
    vanished: list[str]
    unchanged: list[str]
    skipped: list[SkippedFile]
    rejected: list[RejectedFile]
    embedded: list[str]
    relabelled: list[str]
    trashed: list[str]


class SyncAnswer(TypedDict):
    """What has become of the files of a folder: how many there are of each outcome, and which.

    Every file is one of `new`, `changed`, `moved`, `unchanged`, `skipped` and `rejected`; `vanished` are not there any
    more. `embedded` counts the images that were embedded, or would be with `dry_run`, `relabelled` the files whose
    folders give them another label, `trashed` the images that went to the trash since they have no path left.
    `unreachable` are files in folders that could not be read: nothing was done about them. `moved` of `files` are not
    changed otherwise.
    """

    folder: str
    collection: str
    dry_run: bool
    new: int
    changed: int
    moved: int
    vanished: int
    unchanged: int
    skipped: int
    rejected: int
    embedded: int
    relabelled: int
    trashed: int
    unreachable: int
    skipped_kinds: dict[str, int]
    files: SyncFiles
    seconds: float


class Target(Protocol):
    """A collection of a system, which is brought in step."""

    def images(self) -> list[StoredImage]:
        """Return all images with their labels and paths; none, if there is no such collection."""

    def note(self, notes: Notes) -> None:
        """Note paths, and the labels that folders give."""

    def add(self, sources: Sequence[Source]) -> IngestAnswer:
        """Add files, and wait until all are accounted for."""

    def relink(self, files: Sequence[FoundFile]) -> None:
        """Have the links of images that are not copied lead to files with their content, too."""

    def trash(self, image_ids: Sequence[int]) -> None:
        """Move images to the trash."""


@dataclass(frozen=True)
class SyncOptions:
    """How to bring a collection in step.

    Attributes:
        scan: How the folder is scanned.
        prune: Whether images that no file has any more go to the trash.
        allow_vanished: Percentage of the known files that may have vanished.
        dry_run: Whether only to tell what would be done.
    """

    scan: ScanOptions
    prune: bool = False
    allow_vanished: float = 10.0
    dry_run: bool = False


@dataclass(frozen=True)
class SyncOutcome:
    """What became of a folder's files."""

    scan: Scan
    plan: Plan
    refused: Sequence[RejectedFile]
    embedded: int
    trashed: Sequence[StoredImage]


def source_of(folder: Path) -> str:
    """Return what a folder is called in the paths of images: where it lies, as it was named."""
    return readable(str(folder.absolute()))


def sync(
    folder: Path,
    target: Target,
    cache: DigestCache,
    options: SyncOptions,
    *,
    scanned: Callable[[Plan], None] = lambda _: None,
) -> SyncOutcome:
    """Bring a collection in step with a folder; `scanned` gets what is to be done, before it is.

    Raises:
        Vanished: More files have vanished than may; nothing was changed.
        Invalid: There is no such folder; nothing was changed.
        ArtseekError: A server does not answer, or refuses.
    """
    found = scan(folder, cache, options.scan)
    if "" in found.unreadable:
        raise Vanished(f"the folder {str(folder)!r} cannot be read: {found.rejected[0][1].reason}; nothing was changed")
    comparison = FolderComparison(
        found, target.images(), source_of(folder), with_labels=options.scan.labels_from_folders
    )
    plan = comparison.plan
    _check_vanished(folder, plan, options.allow_vanished)
    scanned(plan)
    if options.dry_run:
        without_path = comparison.without_path() if options.prune else []
        return SyncOutcome(found, plan, [], len(plan.to_add), without_path)
    noted = comparison.notes(frozenset(file.digest for file in plan.to_add))
    if lie_elsewhere := comparison.newly_found():
        target.relink(lie_elsewhere)  # before the paths are noted: a sync that is stopped finds them again
    _note(target, noted)
    added = target.add([file.source for file in plan.to_add]) if plan.to_add else None
    if added is not None and added["state"] == "cancelled":
        raise ArtseekError(
            f"the job {added['job']} that adds the files was cancelled: what was added stays; sync again for the rest"
        )
    refusals = [] if added is None else added["rejected"]
    names = {item["name"] for item in refusals}
    refused = frozenset(file.digest for file in plan.to_add if file.source.name in names)
    _keep_refusals(cache, plan, refusals, options.scan.judge)
    _note(target, comparison.notes(refused).without(noted))
    without_path = comparison.without_path(refused) if options.prune else []
    if without_path:
        target.trash([image.id for image in without_path])
        _note(target, comparison.gone_notes(without_path))
    return SyncOutcome(found, plan, refusals, 0 if added is None else added["added"], without_path)


def _check_vanished(folder: Path, plan: Plan, allowed: float) -> None:
    if plan.held and 100 * len(plan.vanished) > allowed * plan.held:
        percent = 100 * len(plan.vanished) / plan.held
        raise Vanished(
            f"{len(plan.vanished)} of the {plan.held} known files of {str(folder)!r} have vanished, {percent:.0f} %: "
            "is the right disk mounted? Nothing was changed; if they are gone on purpose, give "
            f"--allow-vanished {min(100, int(percent) + 1)}"
        )


def _note(target: Target, notes: Notes) -> None:
    for part in notes.parts(NOTED_AT_ONCE):
        target.note(part)


def _keep_refusals(cache: DigestCache, plan: Plan, refusals: Sequence[RejectedFile], judge: str) -> None:
    paths = {file.source.name: file.source.path for file in plan.to_add}
    kept = [
        (paths[item["name"]], item["code"], item["reason"])
        for item in refusals
        if item["name"] in paths and item["code"] in _KEPT_REFUSALS
    ]
    cache.refuse(kept, judge)


def sync_answer(folder: Path, collection: str, outcome: SyncOutcome, *, dry_run: bool, seconds: float) -> SyncAnswer:
    """Return what has become of a folder's files as JSON values."""
    plan, found = outcome.plan, outcome.scan
    codes = {item["name"]: item for item in outcome.refused}
    reasons = {file.digest: codes[file.source.name] for file in plan.to_add if file.source.name in codes}
    rejected = [
        RejectedFile(file=readable(str(source.path)), name=source.name, code=refusal.code, reason=refusal.reason)
        for source, refusal in found.rejected
    ]
    rejected += [
        RejectedFile(
            file=readable(str(file.source.path)),
            name=file.source.name,
            code=reasons[file.digest]["code"],
            reason=reasons[file.digest]["reason"],
        )
        for file in found.files
        if file.digest in reasons
    ]
    refused = {item["name"] for item in rejected}
    files = SyncFiles(
        new=[name for name in plan.new if name not in refused],
        changed=[name for name in plan.changed if name not in refused],
        moved=[MovedFile(before=file.before, after=file.after) for file in plan.moved],
        vanished=plan.vanished,
        unchanged=plan.unchanged,
        skipped=[
            SkippedFile(file=name, kind=kind) for kind, names in sorted(found.skipped.by_kind.items()) for name in names
        ],
        rejected=rejected,
        embedded=[file.source.name for file in plan.to_add if file.source.name not in refused],
        relabelled=plan.relabelled,
        trashed=[str(image.id) for image in outcome.trashed],
    )
    return SyncAnswer(
        folder=readable(str(folder)),
        collection=collection,
        dry_run=dry_run,
        new=len(files["new"]),
        changed=len(files["changed"]),
        moved=len(plan.moved),
        vanished=len(plan.vanished),
        unchanged=len(plan.unchanged),
        skipped=len(files["skipped"]),
        rejected=len(rejected),
        embedded=outcome.embedded,
        relabelled=len(plan.relabelled),
        trashed=len(outcome.trashed),
        unreachable=len(plan.hidden),
        skipped_kinds=found.skipped.counts,
        files=files,
        seconds=round(seconds, 3),
    )
