"""Jobs: what became of images that were handed in together, or of other work on a collection."""

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.schemas.refusals import Refusal
from shared.state import Job, Jobs, Rejection
from shared.state.jobs import CANCELLABLE, Kind, State
from shared.state.outcomes import Outcome
from shared.timestamps import rfc3339


class JobFields(TypedDict):
    """What every view of a job has: what it is, how far it is, and what became of its images, in numbers."""

    id: str
    kind: Kind
    collection: str
    state: State
    created: str
    total: int
    finished: int
    added: int
    duplicates: int
    affected: int
    relabelled: int


class JobAnswer(JobFields):
    """What became of a job: images handed in together, or work of another kind on a collection.

    `relabelled` counts the duplicates that have a new label, `labels_kept` those that have kept another than they came
    with.

    `damaged` names images that were added though a part of their file was lost.

    `open`: more images may come; `running`: they are being taken in; `done`: each is accounted for; `cancelled`: it
    ended before. Of an evaluation, `total` and `finished` count searches; of a change of model, images to embed; of
    regions, images that are to have windows.
    """

    labels_kept: int
    damaged: list[str]
    rejected: list[Refusal]
    classes: dict[str, int]


def job_answer(job: Job, outcome: Outcome) -> JobAnswer:
    """Return a job as it stands, and what became of its images by now."""
    return {
        **job_fields(job),
        "labels_kept": job.counts.labels_kept,
        "damaged": list(outcome.damaged),
        "rejected": [refusal(rejection) for rejection in outcome.rejected],
        "classes": {label: count for label, count in outcome.added.items() if label},
    }


def read_job_answer(jobs: Jobs, job: str) -> JobAnswer:
    """Return a job as it stands, all that it left out included.

    Raises:
        NotFound: There is no such job.
    """
    return job_answer(jobs.get(job), jobs.outcome(job))


class JobSummaryAnswer(JobFields):
    """A job in a list, or as it is followed: its fields, how many images were rejected, and the first reason or "".

    `cancellable`: it has not ended, and is of a kind that can be cancelled.
    """

    rejected: int
    reason: str
    cancellable: bool


class JobsAnswer(TypedDict):
    """A part of the jobs, newest first, and how many there are in all."""

    jobs: list[JobSummaryAnswer]
    total: int
    limit: int
    offset: int


def job_summary(job: Job) -> JobSummaryAnswer:
    """Return a job as a list shows it, and whoever follows it sees it."""
    return {
        **job_fields(job),
        "rejected": sum(job.counts.rejected.values()),
        "reason": job.counts.reason,
        "cancellable": not job.done and job.kind in CANCELLABLE and not job.cancelled,
    }


def job_fields(job: Job) -> JobFields:
    """Return what every view of a job has."""
    return JobFields(
        id=job.id,
        kind=job.kind,
        collection=job.collection,
        state=job.state,
        created=rfc3339(job.created),
        total=job.total,
        finished=_finished(job),
        added=job.added,
        duplicates=job.counts.duplicates,
        affected=job.counts.affected,
        relabelled=job.counts.relabelled,
    )


def _finished(job: Job) -> int:
    return job.steps if job.kind in {"evaluate", "duplicates", "change-model", "regions"} else job.counts.images


def refusal(rejection: Rejection) -> Refusal:
    """Return why an image was not taken."""
    return Refusal(name=rejection.name, code=rejection.code, reason=rejection.reason)
