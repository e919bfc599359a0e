"""Scans a folder: which files it has, their contents by digest, and which are no images or not complete yet."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from services.producer.ingest import refused_at_first_sight
from services.producer.sync.digest_cache import DigestCache, Finding, Fingerprint
from shared.errors import Invalid
from shared.folders import Source, composed, walk
from shared.passed_over import PassedOver
from shared.state import Rejection
from shared.storage.layout import digest_of_file

GROWING = "growing"
_THREADS = 4
_AT_ONCE = 256
_RECENT_S = 10.0  # a file that was written within this time may be written still
_SETTLED_S = 1.0


@dataclass(frozen=True)
class FoundFile:
    """A file that may be an image, with the SHA-256 of its content."""

    source: Source
    digest: str


@dataclass
class Scan:
    """What a folder has.

    Attributes:
        files: The files that may be images.
        rejected: The files and folders that cannot be taken, and why, with the names of the files.
        skipped: The files that were passed over, and those that still grow.
        unreadable: The names of the folders that could not be listed, each with a slash, the folder itself as "".
    """

    files: list[FoundFile] = field(default_factory=list)
    rejected: list[tuple[Source, Rejection]] = field(default_factory=list)
    skipped: PassedOver = field(default_factory=PassedOver)
    unreadable: list[str] = field(default_factory=list)

    def hides(self, name: str) -> bool:
        """Return whether a file of this name may be there, though it is none of `files`."""
        return any(name.startswith(folder) for folder in self.unreadable)


@dataclass(frozen=True)
class ScanOptions:
    """How to scan: the most bytes of a file, whose refusals count, and whether refused files are tried again."""

    max_bytes: int
    judge: str
    retry_rejected: bool = False
    labels_from_folders: bool = False


_Read = tuple[Source, Fingerprint | None, Finding | Rejection | None]
"""A file, what it was like, and what was found: None if it grew meanwhile."""


def scan(
    folder: Path, cache: DigestCache, options: ScanOptions, *, pause: Callable[[float], None] = time.sleep
) -> Scan:
    """Scan a folder; files that were read before are not read again.

    Raises:
        Invalid: There is no such folder.
    """
    if not folder.is_dir():
        raise Invalid(f"there is no folder {str(folder)!r}: is its disk mounted? Nothing was changed")
    made, recent = Scan(), dict[Path, tuple[Fingerprint, FoundFile]]()
    began = time.monotonic()
    sources = walk(
        [folder],
        labels_from_folders=options.labels_from_folders,
        list_unreadable=True,
        passed_over=made.skipped,
    )
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="scan") as threads:
        while some := list(islice(sources, _AT_ONCE)):
            for source, fingerprint, found in _read_all(some, cache, options, threads):
                _sort_in(made, recent, folder, source, fingerprint, found)
    if recent:
        pause(max(0.0, _SETTLED_S - (time.monotonic() - began)))
        _leave_out_growing(made, recent)
    return made


def _read_all(
    sources: Sequence[Source], cache: DigestCache, options: ScanOptions, threads: ThreadPoolExecutor
) -> Iterator[_Read]:
    """Find out what files are, and keep that."""
    known: dict[Path, tuple[Fingerprint, Finding]] = {}
    for source in sources:
        if source.problem is None and (fingerprint := _fingerprint(source.path)) is not None:
            finding = cache.find(source.path, fingerprint)
            if finding is not None and _is_current(finding, options):
                known[source.path] = fingerprint, finding
    unknown = [source for source in sources if source.path not in known]
    read = dict(zip(unknown, threads.map(lambda source: _read(source, options.max_bytes), unknown), strict=True))
    now = time.time_ns()
    cache.put(
        (source.path, fingerprint, found)
        for source, (fingerprint, found) in read.items()
        if isinstance(found, Finding) and fingerprint is not None and fingerprint.is_safe(now)
    )
    for source in sources:
        if source.path in known:
            yield source, *known[source.path]
        else:
            yield source, *read[source]


def _is_current(finding: Finding, options: ScanOptions) -> bool:
    return not finding.code or (finding.judge == options.judge and not options.retry_rejected)


def _fingerprint(path: Path) -> Fingerprint | None:
    try:
        return Fingerprint.of(path.stat())
    except OSError:
        return None


def _read(source: Source, max_bytes: int) -> tuple[Fingerprint | None, Finding | Rejection | None]:
    """Return what a file was like, and its digest, or why it is not taken; None: it grew meanwhile."""
    if source.problem is not None:
        return None, Rejection(source.name, "unreadable-folder", f"the folder cannot be read: {source.problem}")
    try:
        before = Fingerprint.of(source.path.stat())
        if (refused := refused_at_first_sight(source, before.size, max_bytes)) is not None:
            return before, refused
        digest = digest_of_file(source.path)
        after = Fingerprint.of(source.path.stat())
    except OSError as error:
        return None, Rejection(source.name, "unreadable", f"it cannot be read: {error.strerror or error}")
    return before, Finding(digest) if before == after else None


def _sort_in(
    made: Scan,
    recent: dict[Path, tuple[Fingerprint, FoundFile]],
    folder: Path,
    source: Source,
    fingerprint: Fingerprint | None,
    found: Finding | Rejection | None,
) -> None:
    if found is None:
        made.skipped.add(GROWING, source.name)
    elif isinstance(found, Rejection):
        made.rejected.append((source, found))
        if source.problem is not None:
            made.unreadable.append("" if source.path == folder else composed(f"{source.path.relative_to(folder)}/"))
    elif found.code:
        made.rejected.append((source, Rejection(source.name, found.code, found.reason)))
    else:
        file = FoundFile(source, found.digest)
        made.files.append(file)
        if fingerprint is not None and abs(time.time_ns() - fingerprint.modified) < _RECENT_S * 1e9:
            recent[source.path] = fingerprint, file


def _leave_out_growing(made: Scan, recent: dict[Path, tuple[Fingerprint, FoundFile]]) -> None:
    growing = {
        os.fspath(path) for path, (fingerprint, _) in recent.items() if _fingerprint(path) not in {None, fingerprint}
    }
    if growing:
        for file in made.files:
            if os.fspath(file.source.path) in growing:
                made.skipped.add(GROWING, file.source.name)
        made.files = [file for file in made.files if os.fspath(file.source.path) not in growing]
