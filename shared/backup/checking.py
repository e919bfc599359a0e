"""Reads a whole repository, and compares every blob with its digest."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shared.backup.parallel import each
from shared.backup.repository import Damaged, Repository
from shared.backup.snapshot import Entry
from shared.errors import Invalid

_THREADS = 4


@dataclass(frozen=True)
class DamagedBlob:
    """A blob that is missing or damaged: its digest, what it should hold, the snapshots that name it, and the fault."""

    digest: str
    key: str
    snapshots: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class CheckResult:
    """What was found: the snapshots that can be restored whole, those that cannot be read, and damaged blobs."""

    snapshots: tuple[str, ...]
    unreadable: dict[str, str]
    blobs: int
    bytes: int
    unused: int
    damaged: tuple[DamagedBlob, ...]

    @property
    def ok(self) -> bool:
        """Whether every snapshot can be restored whole."""
        return not self.unreadable and not self.damaged


def check_repository(repository: Repository, on_progress: Callable[[int, int], None] | None = None) -> CheckResult:
    """Read every snapshot, and every blob that a snapshot names."""
    needed: dict[str, Entry] = {}
    users: dict[str, list[str]] = {}
    unreadable: dict[str, str] = {}
    with repository.lease("use"):
        ids = repository.snapshots()
        for name in ids:
            try:
                snapshot = repository.read_snapshot(name)
            except Invalid as error:
                unreadable[name] = str(error)
                continue
            for entry in snapshot.entries:
                needed.setdefault(entry.digest, entry)
                named_by = users.setdefault(entry.digest, [])
                if not named_by or named_by[-1] != name:
                    named_by.append(name)
        unused = repository.blobs().keys() - needed.keys()
        faults = check_entries(repository, needed.values(), on_progress)
    damaged = tuple(
        DamagedBlob(digest, needed[digest].key, tuple(users[digest]), fault) for digest, fault in faults.items()
    )
    torn = {name for blob in damaged for name in blob.snapshots}
    return CheckResult(
        snapshots=tuple(name for name in ids if name not in torn and name not in unreadable),
        unreadable=unreadable,
        blobs=len(needed),
        bytes=sum(entry.size for entry in needed.values()),
        unused=len(unused),
        damaged=damaged,
    )


def check_entries(
    repository: Repository, entries: Iterable[Entry], on_progress: Callable[[int, int], None] | None = None
) -> dict[str, str]:
    """Read the blobs of entries; returns what is wrong with the damaged ones, by their digests."""
    needed = {entry.digest: entry for entry in entries}
    found = each(
        lambda entry: _fault(repository, entry), list(needed.values()), threads=_THREADS, on_progress=on_progress
    )
    return {digest: fault for digest, fault in zip(needed, found, strict=True) if fault}


def _fault(repository: Repository, entry: Entry) -> str:
    """Return what is wrong with a blob; "" if nothing is."""
    try:
        for _ in repository.read_blob(entry):
            pass
    except Damaged as error:
        return str(error)
    return ""
