"""Whoever waits for a job that the index has lost is told to ask again, not that there is nothing of the name."""

from typing import cast

import pytest

from shared.errors import NotFound, Unavailable
from shared.messaging.job_submission import wait_for_end
from shared.state import Job, Jobs


class EmptiedJobs:
    """The jobs of an index that was emptied."""

    def get(self, job: str) -> Job:
        raise NotFound(f"there is no job {job!r}")


def test_a_job_that_was_lost_with_the_index_is_to_be_asked_for_again() -> None:
    with pytest.raises(Unavailable, match=r"lost the job 67f3.* ask again"):
        wait_for_end(cast("Jobs", EmptiedJobs()), "67f3", deadline_s=1.0)
