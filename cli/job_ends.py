"""How a job ended that a command followed."""

from shared.errors import ArtseekError
from shared.schemas.jobs import JobAnswer
from shared.state.outcomes import CANCELLED


def check_end(job: JobAnswer, what: str) -> None:
    """Make sure that a job, which is `what` to its reader, did what it was to do.

    Raises:
        ArtseekError: It failed, or somebody cancelled it.
    """
    for failure in job["rejected"]:
        if failure["code"] != CANCELLED:
            raise ArtseekError(failure["reason"])
    if job["state"] == "cancelled":
        raise ArtseekError(f"{what} {job['id']} was cancelled")
