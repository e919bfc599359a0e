"""Jobs as their submitter sees them: create the record, send the task, wait for the end."""

import time
from collections.abc import Callable
from contextlib import suppress

from shared.back_off import BackOff
from shared.errors import Misconfigured, NotFound, Unavailable
from shared.state import Job, Jobs
from shared.state.job_ids import new_job_id
from shared.state.jobs import Kind

POLL_S = 0.2


def submit(jobs: Jobs, kind: Kind, collection: str, send: Callable[[str], None], *, job_id: str | None = None) -> str:
    """Create a job of a kind and have its task sent; returns the job's id.

    The record is written before the task is sent, so that a fast worker finds it. Nothing of the job is left if the
    task cannot be sent.

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
    try:
        send(job_id)
    except Unavailable:
        with suppress(Unavailable):  # else the sweeper ends it
            jobs.forget(job_id)
        raise
    return job_id


def wait_for_end(
    jobs: Jobs,
    job_id: str,
    *,
    deadline_s: float,
    poll_s: float = POLL_S,
    on_progress: Callable[[Job], None] | None = None,
) -> Job | None:
    """Return a job that was submitted when it has ended; None if it has not within `deadline_s` seconds.

    A server that restarts meanwhile is waited for: the job goes on when it is back. `on_progress` gets the job as it
    stands at every look.

    Raises:
        Unavailable: The job is not there any more: the index was emptied, so nobody can say what became of it.
        Misconfigured: The index refuses us until a setting is changed.
    """
    until, back_off = time.monotonic() + deadline_s, BackOff(first_s=poll_s)
    while time.monotonic() < until:
        pause_s = poll_s
        try:
            job = jobs.get(job_id)
        except Misconfigured:
            raise
        except NotFound as error:
            raise Unavailable(f"the index has lost the job {job_id}, which may have been done; ask again") from error
        except Unavailable:
            pause_s = back_off.next_s()
        else:
            back_off.reset()
            if on_progress is not None:
                on_progress(job)
            if job.done:
                return job
        time.sleep(pause_s)
    return None
