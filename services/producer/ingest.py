"""Bulk ingestion: folders of images through the intake, and the summary of what became of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.folders import Source, readable
from shared.messaging.intake import Intake
from shared.state import Job, Rejection


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
                {"file": readable(str(self.files.get(item.name, item.name))), "code": item.code, "reason": item.reason}
                for item in outcome.rejected
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
    max_bytes: int,
    stalled_after_s: float,
    on_progress: Callable[[int], None],
) -> Summary:
    """Send every file through the intake and wait until all are accounted for; `on_progress` gets how many are."""
    started = time.monotonic()
    with intake:
        for source in sources:
            intake.add(source.name, source.label, reader(source, max_bytes=max_bytes))
            on_progress(intake.finished)
    intake.wait(stalled_after_s=stalled_after_s, on_progress=on_progress)
    files = {source.name: source.path for source in sources}
    return Summary(intake.result(), files, time.monotonic() - started)
