"""Bulk ingestion: folders of images through the intake, and the summary of what became of them."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import Invalid
from shared.index import Job, Jobs, Rejection
from shared.intake import Intake


@dataclass(frozen=True)
class Source:
    """A file to ingest: where it is, the name it is known by, and its label if it has one."""

    path: Path
    name: str
    label: str | None


def walk(paths: Sequence[Path], *, labels_from_folders: bool) -> Iterator[Source]:
    """Yield the files at `paths`, folders in depth and in the order of their names; hidden ones are passed over.

    The name of a file in a folder is its path within it; its label, if asked for, the first folder of that path.

    Raises:
        Invalid: A path does not exist.
    """
    for root in paths:
        if root.is_dir():
            for path in _files(root):
                inner = path.relative_to(root)
                label = readable(inner.parts[0]) if labels_from_folders and len(inner.parts) > 1 else None
                yield Source(path, readable(inner.as_posix()), label)
        elif root.exists():
            label = readable(root.resolve().parent.name) if labels_from_folders else None
            yield Source(root, readable(root.name), label)
        else:
            raise Invalid(f"there is no file or folder {str(root)!r}")


def readable(name: str) -> str:
    """Return a file's name as text that can be written anywhere: bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():  # a link may lead back up
                yield from _files(path)
        else:
            yield path


def reader(source: Source, *, max_bytes: int) -> Callable[[], bytes | Rejection]:
    """Return a function that reads a file, or says why it cannot be taken."""

    def read() -> bytes | Rejection:
        try:
            size = source.path.stat().st_size
            if size > max_bytes:
                return Rejection(
                    source.name, "too-large", f"{size} bytes, more than the {max_bytes} of ARTSEEK_MAX_FILE_BYTES"
                )
            if not source.path.is_file():
                return Rejection(source.name, "not-a-file", "it is neither a file nor a folder")
            return source.path.read_bytes() or Rejection(source.name, "empty", "the file is empty; get it anew")
        except OSError as error:
            return Rejection(source.name, "unreadable", f"it cannot be read: {error.strerror or error}")

    return read


@dataclass(frozen=True)
class Summary:
    """What became of an ingestion: the job as it ended, the files by name, and how long it took."""

    job: Job
    files: dict[str, Path]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        outcome = self.job.outcome
        labels = {label: count for label, count in outcome.added.items() if label}
        return {
            "collection": self.job.collection,
            "job": self.job.id,
            "files": self.job.total,
            "added": self.job.added,
            "duplicates": outcome.duplicates,
            "rejected": [
                {"file": readable(str(self.files.get(one.name, one.name))), "code": one.code, "reason": one.reason}
                for one in outcome.rejected
            ],
            "classes": labels,
            "unlabelled": self.job.added - sum(labels.values()),
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.job.total / self.seconds, 2) if self.seconds else 0.0,
        }


def ingest(
    sources: Sequence[Source],
    *,
    intake: Intake,
    jobs: Jobs,
    max_bytes: int,
    stalled_after_s: float,
    progress: Callable[[int], None],
) -> Summary:
    """Send every file through the intake and wait until all are accounted for; `progress` is told how many are."""
    started = time.monotonic()
    with intake:
        for source in sources:
            intake.add(source.name, source.label, reader(source, max_bytes=max_bytes))
            progress(intake.finished)
    intake.wait(stalled_after_s=stalled_after_s, progress=progress)
    files = {source.name: source.path for source in sources}
    return Summary(jobs.get(intake.job), files, time.monotonic() - started)
