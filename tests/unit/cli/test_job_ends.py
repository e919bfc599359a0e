"""How a job ended that a command followed."""

from typing import Any

import pytest

from cli.job_ends import check_end
from shared.errors import ArtseekError
from shared.schemas.jobs import job_answer
from shared.state import Job, Rejection
from shared.state.outcomes import CANCELLED, Counts, Outcome


def ended(*rejected: Rejection, cancelled: bool = False) -> Any:
    job = Job(
        id="7",
        collection="art",
        kind="map",
        batches=1,
        total=1,
        closed=True,
        created=0.0,
        reported=1,
        counts=Counts(),
        cancelled=cancelled,
    )
    return job_answer(job, Outcome(rejected=rejected))


def test_a_job_that_was_done_is_no_error() -> None:
    check_end(ended(), "the map")


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (ended(cancelled=True), "the map 7 was cancelled"),
        (ended(Rejection("art", CANCELLED, "it is as it was"), cancelled=True), "the map 7 was cancelled"),
        (ended(Rejection("art", "failed", "no image")), "no image"),
        (ended(Rejection("art", "failed", "no image"), cancelled=True), "no image"),
    ],
)
def test_one_that_was_cancelled_or_failed_is(job: Any, told: str) -> None:
    with pytest.raises(ArtseekError, match=told):
        check_end(job, "the map")
