"""The repository of backups: blobs, each once under the SHA-256 of its bytes, and snapshots that name them.

artseek-backup.json                                   what makes a folder a repository: format, id
blobs/<first two digits>/<sha256>                     the bytes of an object or of a model's file
snapshots/<time>-<digits of its sha256>.jsonl.gz      what a system consisted of; written after all of its blobs
leases/…                                              who works in the repository at the moment
"""

import hashlib
import io
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, cast

from shared.backup.leases import Lease, Work, hold_lease
from shared.backup.snapshot import Entry, Snapshot, packed
from shared.backup.target import Target
from shared.errors import Invalid, NotFound
from shared.versioned import StoredKind

_KIND = StoredKind("mark of a repository of backups")
MARK = "artseek-backup.json"
BLOBS, SNAPSHOTS = "blobs", "snapshots"
_SNAPSHOT = re.compile(rf"{SNAPSHOTS}/(\d{{8}}T\d{{12}}Z-[0-9a-f]{{16}})\.jsonl\.gz")
_BLOB = re.compile(rf"{BLOBS}/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})")
_TIME = "%Y%m%dT%H%M%S%f"
_IN_MEMORY = 2**22  # bytes of a file that is not yet known by its digest; larger ones wait on disk


class Damaged(Invalid):
    """A blob or a snapshot is missing, or does not hold what its name says."""


@dataclass(frozen=True)
class Spooled:
    """Bytes that were read to their end, with their SHA-256 and MD5; close the file when it is written."""

    file: BinaryIO
    digest: str
    md5: str
    size: int


def spool(parts: Iterable[bytes]) -> Spooled:
    """Read bytes to their end, and keep them at hand."""
    file = cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115 -- the caller's
    digest, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    try:
        for part in parts:
            digest.update(part)
            md5.update(part)
            size += len(part)
            file.write(part)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return Spooled(file, digest.hexdigest(), md5.hexdigest(), size)


class Repository:
    """Reads and writes a repository."""

    def __init__(self, target: Target) -> None:
        """Work in a target that `create` or `open` has looked at."""
        self.target = target

    @classmethod
    def create(cls, target: Target) -> "Repository":
        """Return the repository in a target, made now if the target is empty.

        Raises:
            Invalid: Something else is there, or a repository of a newer version.
        """
        try:
            return cls.open(target)
        except NotFound:
            strange = next((file.name for file in target.list("")), None)
            if strange is not None:
                raise Invalid(
                    f"{target} is not empty ({strange!r} is there) and holds no backups: name an empty folder, or one "
                    "that backups were made in before"
                ) from None
        mark = _KIND.dumps({"id": secrets.token_hex(8)})
        target.write(MARK, io.BytesIO(mark), len(mark))
        return cls(target)

    @classmethod
    def open(cls, target: Target) -> "Repository":
        """Return the repository in a target.

        Raises:
            NotFound: There is none.
            TooNew: It was written by a newer version.
            Invalid: Its mark cannot be read.
        """
        try:
            mark = b"".join(target.read(MARK))
        except NotFound:
            raise NotFound(f"{target} holds no backups") from None
        _KIND.loads(mark, lambda values: values["id"], place=f"{target}/{MARK}")
        return cls(target)

    def lease(self, work: Work) -> AbstractContextManager[Lease]:
        """Hold the right to work in the repository over a block."""
        return hold_lease(self.target, work)

    # Blobs

    def blobs(self) -> dict[str, int]:
        """Return the sizes of all blobs by their digests."""
        found = ((_BLOB.fullmatch(file.name), file.size) for file in self.target.list(BLOBS))
        return {match[2]: size for match, size in found if match}

    def put_blob(self, digest: str, file: BinaryIO, size: int) -> None:
        """Write a blob, given its bytes."""
        self.target.write(_blob(digest), file, size)

    def read_blob(self, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of an entry.

        Raises:
            Damaged: They are missing, or others; raised when all are read, so use none before.
        """
        digest, size = hashlib.sha256(), 0
        try:
            for part in self.target.read(_blob(entry.digest)):
                digest.update(part)
                size += len(part)
                if size > entry.size:
                    break
                yield part
        except NotFound:
            raise Damaged(f"the blob {entry.digest} of {entry.key!r} is missing in {self.target}") from None
        if size != entry.size:
            raise Damaged(f"the blob {entry.digest} of {entry.key!r} has not the {entry.size} bytes that it should")
        if digest.hexdigest() != entry.digest:
            raise Damaged(f"the blob {entry.digest} of {entry.key!r} is damaged: its bytes have another SHA-256")

    def delete_blobs(self, digests: Iterable[str]) -> None:
        """Delete blobs."""
        self.target.delete([_blob(digest) for digest in digests])

    # Snapshots

    def snapshots(self) -> list[str]:
        """Return the ids of the snapshots, the oldest first."""
        found = (_SNAPSHOT.fullmatch(file.name) for file in self.target.list(SNAPSHOTS))
        return sorted(match[1] for match in found if match)

    def find(self, wanted: str | None) -> str:
        """Return the id of a snapshot that the beginning of it names; None: the latest.

        Raises:
            NotFound: There is none, or there are several.
        """
        ids = self.snapshots()
        if wanted is None:
            if not ids:
                raise NotFound(f"{self.target} holds no complete backup")
            return ids[-1]
        fitting = [found for found in ids if found.startswith(wanted)]
        if len(fitting) != 1:
            many = f"{len(fitting)} snapshots" if fitting else "no snapshot"
            raise NotFound(f"{self.target} holds {many} that {wanted!r} names; `artseek restore --list` shows all")
        return fitting[0]

    def write_snapshot(self, snapshot: Snapshot) -> str:
        """Write a snapshot whose blobs are all there; returns its id, which sorts behind all others."""
        data = packed(snapshot)
        now = datetime.now(UTC)
        if ids := self.snapshots():
            last = datetime.strptime(ids[-1].partition("Z")[0], _TIME).replace(tzinfo=UTC)
            now = max(now, last + timedelta(microseconds=1))  # a clock may have been set back
        name = f"{now.strftime(_TIME)}Z-{hashlib.sha256(data).hexdigest()[:16]}"
        self.target.write(_file_of(name), io.BytesIO(data), len(data))
        return name

    def read_snapshot(self, name: str) -> Snapshot:
        """Return a snapshot by its id.

        Raises:
            Damaged: It is not what was written.
            Invalid: It is of a newer version, or forged.
        """
        try:
            spooled = spool(self.target.read(_file_of(name)))
        except NotFound:
            raise NotFound(f"{self.target} holds no snapshot {name!r}") from None
        with spooled.file:
            if spooled.digest[:16] != name.rpartition("-")[2]:
                raise Damaged(f"the snapshot {name} in {self.target} is damaged: its bytes have another SHA-256")
            return Snapshot.read(spooled.file, name)

    def delete_snapshots(self, names: Iterable[str]) -> None:
        """Delete snapshots, not their blobs."""
        self.target.delete([_file_of(name) for name in names])


def _blob(digest: str) -> str:
    return f"{BLOBS}/{digest[:2]}/{digest}"


def _file_of(snapshot: str) -> str:
    return f"{SNAPSHOTS}/{snapshot}.jsonl.gz"
