"""Drops old snapshots, and the blobs that no snapshot names any more."""

from dataclasses import dataclass
from itertools import islice

from shared.backup.folder_target import FolderTarget
from shared.backup.repository import Repository

_AT_A_TIME = 500


@dataclass(frozen=True)
class Cleaned:
    """What was removed: snapshots by their ids, and how many blobs with how many bytes."""

    snapshots: tuple[str, ...] = ()
    blobs: int = 0
    bytes: int = 0


def keep_latest(repository: Repository, count: int) -> Cleaned:
    """Keep the latest `count` snapshots, at least 1, and remove what only older ones name.

    A run that dies leaves blobs that nobody names, which the next run removes.

    Raises:
        Locked: Another process works in the repository.
        Invalid: A snapshot that is to be kept cannot be read, so what it names is not known. Nothing was removed.
    """
    with repository.lease("cleaning") as lease:
        ids = repository.snapshots()
        old, kept = ids[:-count], ids[-count:]
        named: set[str] = set()
        for name in kept:
            named.update(entry.digest for entry in repository.read_snapshot(name).entries)
        lease.ensure()
        repository.delete_snapshots(old)
        unused = {digest: size for digest, size in repository.blobs().items() if digest not in named}
        ahead = iter(unused)
        while digests := list(islice(ahead, _AT_A_TIME)):
            lease.ensure()
            repository.delete_blobs(digests)
        if isinstance(repository.target, FolderTarget):
            repository.target.clear_parts()
    return Cleaned(tuple(old), len(unused), sum(unused.values()))
