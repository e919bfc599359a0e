"""Jobs as their submitter sees them: create the record, send the task, wait for the end."""

import time
from collections.abc import Callable

from shared.errors import Unavailable
from shared.state import Job, Jobs
from shared.state.jobs import Kind, new_job_id

POLL_S = 0.2


def submit(jobs: Jobs, kind: Kind, collection: str, send: Callable[[str], None], *, job_id: str | None = None) -> str:
    """Create a job of a kind and have its task sent; returns the job's id.

    The record is written before the task is sent, so that a fast worker finds it.

    Args:
        jobs: The records of the jobs.
        kind: What is to be done.
        collection: Name of the collection.
        send: Puts the task of the job with this id onto its queue.
        job_id: The id if it is known before; None: a new one.

    Raises:
        Unavailable: Redis or the broker does not answer.
    """
    job_id = job_id or new_job_id()
    jobs.create(job_id, collection, kind=kind)
    send(job_id)
    return job_id


def wait_for_end(
    jobs: Jobs,
    job_id: str,
    *,
    deadline_s: float,
    poll_s: float = POLL_S,
    on_progress: Callable[[Job], None] | None = None,
) -> Job | None:
    """Return a job when it has ended; None if it has not within `deadline_s` seconds.

    A server that restarts meanwhile is waited for: the job goes on when it is back. `on_progress` gets the job as it
    stands at every look.

    Raises:
        NotFound: There is no such job.
    """
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        try:
            job = jobs.get(job_id)
        except Unavailable:
            pass
        else:
            if on_progress is not None:
                on_progress(job)
            if job.done:
                return job
        time.sleep(poll_s)
    return None
