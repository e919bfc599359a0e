"""Removes collections and evaluations, for the API and the pages: each waits a while, so that it is gone at once."""

import time

from services.web.clients import WebClients
from services.web.languages import told
from services.web.problems import Problem
from services.web.quotas import submit_counted
from shared.errors import NotFound
from shared.evaluation.removal import is_under_way, remove_evaluation
from shared.messaging.job_submission import wait_for_end

_PATIENCE_S = 5.0
_POLL_S = 0.05


def drop_collection(clients: WebClients, name: str) -> str | None:
    """Have a collection removed; returns the job if it is not done yet, None if the collection is gone.

    Raises:
        NotFound: There is no such collection.
        Problem: It could not be removed, or not wholly; or the requester has as much under way as they may.
    """
    clients.catalog.get(name)
    job = submit_counted("drop", name, lambda job: clients.queue.drop(job=job, collection=name))
    until = time.monotonic() + _PATIENCE_S
    ended = wait_for_end(clients.state.jobs, job, deadline_s=_PATIENCE_S, poll_s=_POLL_S)
    if ended is None:
        return job
    if ended.counts.rejected:
        reasons = clients.state.jobs.outcome(job).reasons
        raise Problem(
            409,
            "not-deleted",
            told(
                "the collection %(name)s is not deleted, or not wholly: %(reasons)s", name=repr(name), reasons=reasons
            ),
        )
    while time.monotonic() < until:
        try:
            clients.query.collection(name)
        except NotFound:
            return None
        time.sleep(_POLL_S)
    return job


def delete_evaluation(clients: WebClients, evaluation: str) -> str | None:
    """Remove an evaluation; one that is under way is cancelled first. Returns its job if that has not ended yet.

    Raises:
        NotFound: There is no such evaluation.
    """
    jobs = clients.state.jobs
    was_under_way = is_under_way(clients.state, evaluation)
    if was_under_way:
        jobs.cancel(evaluation)
        if wait_for_end(jobs, evaluation, deadline_s=_PATIENCE_S, poll_s=_POLL_S) is None:
            return evaluation
    try:
        remove_evaluation(clients.store, clients.state, evaluation)
    except NotFound:  # one that was cancelled in time leaves nothing
        if not was_under_way:
            raise
    return None
