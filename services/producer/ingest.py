"""Bulk ingestion: folders of images through the intake, and the summary of what became of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from typing_extensions import TypedDict  # as in `shared.schemas`, which it extends

from shared.folders import Source, readable
from shared.messaging.intake import Intake
from shared.schemas.jobs import Refusal, job_answer
from shared.state import Job, Rejection
from shared.state.jobs import Kind


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


class RejectedFile(Refusal):
    """A file that was not taken, and where it is."""

    file: str


class IngestAnswer(TypedDict):
    """What became of an ingestion: the fields of its job, and how long it took.

    `rejected` says beside each file's name where the file is. `job` is the job's id and `files` its `total`, in the
    words of the command.
    """

    job: str
    files: int
    id: str
    kind: Kind
    collection: str
    state: Literal["open", "running", "done", "cancelled"]
    created: str
    total: int
    finished: int
    added: int
    duplicates: int
    affected: int
    rejected: list[RejectedFile]
    classes: dict[str, int]
    unlabelled: int
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Summary:
    """What became of an ingestion: the job as it ended, the files by name, and how long it took."""

    job: Job
    files: dict[str, Path]
    seconds: float

    def to_json(self) -> IngestAnswer:
        """Return the summary as JSON values."""
        job = job_answer(self.job)
        return IngestAnswer(
            job=job["id"],
            files=job["total"],
            id=job["id"],
            kind=job["kind"],
            collection=job["collection"],
            state=job["state"],
            created=job["created"],
            total=job["total"],
            finished=job["finished"],
            added=job["added"],
            duplicates=job["duplicates"],
            affected=job["affected"],
            rejected=[self._rejected_file(rejected) for rejected in job["rejected"]],
            classes=job["classes"],
            unlabelled=job["added"] - sum(job["classes"].values()),
            seconds=round(self.seconds, 3),
            images_per_second=round(job["total"] / self.seconds, 2) if self.seconds else 0.0,
        )

    def _rejected_file(self, rejected: Refusal) -> RejectedFile:
        path = self.files.get(rejected["name"], rejected["name"])
        return RejectedFile(
            file=readable(str(path)), name=rejected["name"], code=rejected["code"], reason=rejected["reason"]
        )


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
