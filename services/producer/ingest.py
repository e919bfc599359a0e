"""Bulk ingestion: folders of images through the intake, and the summary of what became of them."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.producer.sidecars import Sidecars
from shared.errors import Invalid
from shared.folders import Source, composed, readable
from shared.images import ImageRefused
from shared.images.sniffing import sniff
from shared.messaging.intake import Intake
from shared.messaging.messages import BatchImage
from shared.records.duplicates import DuplicateFile
from shared.schemas.jobs import JobFields, job_answer, job_fields
from shared.schemas.refusals import Refusal
from shared.state import Job, Rejection
from shared.state.outcomes import Outcome
from shared.storage.large_objects import LARGE
from shared.storage.link_roots import LinkRoots

_HEAD = 4096  # bytes that tell what a file is


def reader(source: Source, *, max_bytes: int) -> Callable[[], bytes | Rejection]:
    """Return a function that reads a file, or says why it cannot be taken."""
    find = finder(source, max_bytes=max_bytes)

    def read() -> bytes | Rejection:
        found = find()
        try:
            return found.read_bytes() if isinstance(found, Path) else found
        except OSError as error:
            return Rejection(source.name, "unreadable", f"it cannot be read: {error.strerror or error}")

    return read


def finder(source: Source, *, max_bytes: int, roots: LinkRoots | None = None) -> Callable[[], bytes | Path | Rejection]:
    """Return a function that reads a file, gives the path of a large one, or says why it cannot be taken.

    With `roots`, the file is to be linked: its path is given, if it lies below one of these folders.
    """

    def find() -> bytes | Path | Rejection:
        if source.problem is not None:
            reason = f"the folder cannot be read, so nothing in it was taken: {source.problem}"
            return Rejection(source.name, "unreadable-folder", reason)
        try:
            if roots is not None:
                roots.admitted(source.path)
            size = source.path.stat().st_size
            if (refused := refused_at_first_sight(source, size, max_bytes)) is not None:
                return refused
            return source.path if size >= LARGE or roots is not None else source.path.read_bytes()
        except Invalid as error:
            return Rejection(source.name, "not-linked", str(error))
        except OSError as error:
            return Rejection(source.name, "unreadable", f"it cannot be read: {error.strerror or error}")

    return find


def refused_at_first_sight(source: Source, size: int, max_bytes: int) -> Rejection | None:
    """Return why a file is not taken, going by its size in bytes and its first bytes; None if it may be an image.

    Raises:
        OSError: It cannot be read.
    """
    if size > max_bytes:
        return Rejection(source.name, "too-large", f"{size} bytes, more than the {max_bytes} of ARTSEEK_MAX_FILE_BYTES")
    if not source.path.is_file():
        return Rejection(source.name, "not-a-file", "it is neither a file nor a folder")
    if not size:
        return Rejection(source.name, "empty", "the file is empty; get it anew")
    with source.path.open("rb") as file:
        head = file.read(_HEAD)
    try:
        sniff(head)
    except ImageRefused as refusal:
        return Rejection(source.name, refusal.reason, refusal.message)
    return None


class RejectedFile(Refusal):
    """A file that was not taken, and where it is."""

    file: str


class IngestAnswer(JobFields):
    """What became of an ingestion: the fields of its job, and how long it took.

    `skipped` counts the files that are no images to take, by kind: `video`, `sidecar`, `Thumbs.db`, and so on.

    `rejected` says beside each file's name where the file is. `job` is the job's id and `files` its `total`, in the
    words of the command; `jobs` has the ids of all jobs, since a remote system gets the files in parts. `restored`
    counts the duplicates whose originals were missing and are there again.
    """

    job: str
    jobs: list[str]
    files: int
    restored: int
    labels_kept: int
    damaged: list[str]
    rejected: list[RejectedFile]
    classes: dict[str, int]
    unlabelled: int
    skipped: dict[str, int]
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Summary:
    """What became of an ingestion: the job as it ended, its images, the files by name, and how long it took.

    `duplicates` are the files without label whose contents the collection has, and those that came twice.
    """

    job: Job
    outcome: Outcome
    files: dict[str, Path]
    seconds: float
    restored: int = 0
    duplicates: Sequence[DuplicateFile] = ()

    def to_json(self, skipped: Mapping[str, int] | None = None) -> IngestAnswer:
        """Return the summary as JSON values; `skipped` counts the files that were passed over."""
        job = job_answer(self.job, self.outcome)
        return {
            "job": job["id"],
            "jobs": [job["id"]],
            "files": job["total"],
            **job_fields(self.job),
            "restored": self.restored,
            "labels_kept": job["labels_kept"],
            "damaged": job["damaged"],
            "rejected": [self._rejected_file(rejected) for rejected in job["rejected"]],
            "classes": job["classes"],
            "unlabelled": job["added"] - sum(job["classes"].values()),
            "skipped": dict(skipped or {}),
            "seconds": round(self.seconds, 3),
            "images_per_second": round(job["total"] / self.seconds, 2) if self.seconds else 0.0,
        }

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
    on_progress: Callable[[int], None],
    sidecars: Sidecars | None = None,
    roots: LinkRoots | None = None,
) -> Summary:
    """Send every file through the intake and wait until all are accounted for; `on_progress` gets how many are.

    With `roots`, for an intake that links, each file has to lie below one of these folders.
    """
    started = time.monotonic()
    with intake:
        for source in sources:
            if intake.cancelled:
                break
            read = finder(source, max_bytes=max_bytes, roots=roots)
            intake.add(source.name, source.label, read if sidecars is None else sidecars.reading(source, read))
            on_progress(intake.finished)
    if sidecars is not None:
        sidecars.store()
    intake.wait(on_progress=on_progress)
    files = {source.name: source.path for source in sources}
    duplicates = duplicate_files(intake.found, files)
    seconds = time.monotonic() - started
    return Summary(intake.result(), intake.outcome(), files, seconds, intake.restored, duplicates)


def duplicate_files(images: Iterable[BatchImage], files: Mapping[str, Path]) -> list[DuplicateFile]:
    """Return the files that images were handed in as; `files` are all by their names."""
    return [
        DuplicateFile(image.digest, image.name, folder_of(files[image.name], image.name), image.label)
        for image in images
    ]


def folder_of(path: Path, name: str) -> str:
    """Return the folder that a file lies below by its name, as `artseek sync` calls it; "": its name is no path."""
    whole = path.absolute()
    depth = name.count("/")
    if depth >= len(whole.parents):
        return ""
    folder = whole.parents[depth]
    return readable(str(folder)) if composed(whole.relative_to(folder).as_posix()) == name else ""
