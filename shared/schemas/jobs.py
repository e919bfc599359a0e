"""Jobs: what became of images that were handed in together, or of other work on a collection."""

from typing import Literal

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.state import Job, Rejection
from shared.state.jobs import Kind
from shared.timestamps import rfc3339


class Refusal(TypedDict):
    """A file that is not taken: its name, a short code, and a sentence that says why and what helps."""

    name: str
    code: str
    reason: str


class JobAnswer(TypedDict):
    """What became of a job: images handed in together, or work of another kind on a collection.

    `open`: more images may come; `running`: they are being worked off; `done`: each is accounted for; `cancelled`: it
    ended before. Of an evaluation, `total` and `finished` count searches; of a change of model, images to embed.
    """

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
    rejected: list[Refusal]
    classes: dict[str, int]


def job_answer(job: Job) -> JobAnswer:
    """Return a job as it stands."""
    return JobAnswer(
        id=job.id,
        kind=job.kind,
        collection=job.collection,
        state=("cancelled" if job.cancelled else "done") if job.done else "running" if job.closed else "open",
        created=rfc3339(job.created),
        total=job.total,
        finished=job.steps if job.kind in {"evaluate", "change-model"} else job.outcome.images,
        added=job.added,
        duplicates=job.outcome.duplicates,
        affected=job.outcome.affected,
        rejected=[refusal(rejection) for rejection in job.outcome.rejected],
        classes={label: count for label, count in job.outcome.added.items() if label},
    )


def refusal(rejection: Rejection) -> Refusal:
    """Return why an image was not taken."""
    return Refusal(name=rejection.name, code=rejection.code, reason=rejection.reason)
