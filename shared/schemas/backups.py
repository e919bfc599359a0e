"""Backups as the command line's JSON shows them."""

from collections.abc import Mapping

from typing_extensions import TypedDict  # as in the other schemas

from shared.backup.backing_up import BackupResult
from shared.backup.checking import CheckResult
from shared.backup.cleaning import Cleaned
from shared.backup.model_files import RestoredModels
from shared.backup.restoring import Restored
from shared.backup.snapshot import Snapshot, total_bytes


class BackupAnswer(TypedDict):
    """A backup that was made, what of it was new, and what was dropped for it.

    `linked` originals are not in it: it has links to the files of their owners.
    """

    snapshot: str
    target: str
    collections: list[str]
    images: int
    linked: int
    objects: int
    models: int
    bytes: int
    new_blobs: int
    new_bytes: int
    damaged: list[str]
    with_secrets: bool
    dropped: list[str]
    freed_bytes: int
    seconds: float


class SnapshotAnswer(TypedDict):
    """A backup in a list; `error` says why it cannot be read."""

    snapshot: str
    created: str
    artseek: str
    source: str
    collections: list[str]
    images: int
    linked: int
    objects: int
    bytes: int
    with_secrets: bool
    error: str


class DamagedBlobAnswer(TypedDict):
    """A blob that is missing or damaged."""

    blob: str
    key: str
    snapshots: list[str]
    reason: str


class CheckAnswer(TypedDict):
    """What a check of all backups found; `snapshots` can be restored whole."""

    ok: bool
    snapshots: list[str]
    unreadable: dict[str, str]
    blobs: int
    bytes: int
    unused_blobs: int
    damaged: list[DamagedBlobAnswer]


class RestoreAnswer(TypedDict):
    """What was restored: images by collection, and what became of the models."""

    snapshot: str
    collections: dict[str, int]
    objects_copied: int
    linked: int
    damaged: list[str]
    models_written: list[str]
    models_kept: list[str]
    models_different: list[str]


def backup_answer(result: BackupResult, cleaned: Cleaned, *, target: str, seconds: float) -> BackupAnswer:
    """Return a backup as JSON values."""
    return BackupAnswer(
        snapshot=result.snapshot,
        target=target,
        collections=list(result.header.collections),
        images=result.header.images,
        linked=result.header.linked,
        objects=result.objects,
        models=result.models,
        bytes=result.bytes,
        new_blobs=result.new_blobs,
        new_bytes=result.new_bytes,
        damaged=list(result.header.damaged),
        with_secrets=result.header.with_secrets,
        dropped=list(cleaned.snapshots),
        freed_bytes=cleaned.bytes,
        seconds=round(seconds, 3),
    )


def snapshot_answer(name: str, snapshot: Snapshot | None, *, error: str = "") -> SnapshotAnswer:
    """Return a backup in a list as JSON values; None for one that cannot be read."""
    header = None if snapshot is None else snapshot.header
    return SnapshotAnswer(
        snapshot=name,
        created=header.created if header else "",
        artseek=header.artseek if header else "",
        source=header.source if header else "",
        collections=list(header.collections) if header else [],
        images=header.images if header else 0,
        linked=header.linked if header else 0,
        objects=len(snapshot.objects) if snapshot else 0,
        bytes=total_bytes(snapshot.entries) if snapshot else 0,
        with_secrets=bool(header and header.with_secrets),
        error=error,
    )


def check_answer(check: CheckResult) -> CheckAnswer:
    """Return what a check found as JSON values."""
    return CheckAnswer(
        ok=check.ok,
        snapshots=list(check.snapshots),
        unreadable=check.unreadable,
        blobs=check.blobs,
        bytes=check.bytes,
        unused_blobs=check.unused,
        damaged=[
            DamagedBlobAnswer(blob=blob.digest, key=blob.key, snapshots=list(blob.snapshots), reason=blob.reason)
            for blob in check.damaged
        ],
    )


def restore_answer(
    name: str, restored: Restored, models: RestoredModels, *, rebuilt: Mapping[str, int]
) -> RestoreAnswer:
    """Return what was restored as JSON values."""
    return RestoreAnswer(
        snapshot=name,
        collections=dict(rebuilt),
        objects_copied=restored.copied,
        linked=restored.linked,
        damaged=[*models.damaged, *restored.damaged],
        models_written=list(models.written),
        models_kept=list(models.kept),
        models_different=list(models.different),
    )
