"""Jobs: what became of what was handed in."""

from flask.typing import ResponseReturnValue

from services.web.api.inputs import JobPath
from services.web.api.openapi import Answer
from services.web.api.operations import api, reply
from services.web.clients import web_clients
from services.web.problems import Problem
from shared.schemas.jobs import JobAnswer, job_answer
from shared.state.jobs import CANCELLABLE


@api.operation(
    "GET",
    "/jobs/{id}",
    path_model=JobPath,
    answers={200: Answer("The job as it stands.", JobAnswer)},
    problems=(404, 503),
)
def get_job(path: JobPath) -> ResponseReturnValue:
    """Tell how a job stands; jobs are kept for a week."""
    return reply(job_answer(web_clients().state.jobs.get(path.id)))


@api.operation(
    "DELETE",
    "/jobs/{id}",
    path_model=JobPath,
    answers={202: Answer("It ends at its next step, and leaves nothing behind.", JobAnswer)},
    problems=(404, 409, 503),
)
def cancel_job(path: JobPath) -> ResponseReturnValue:
    """Cancel an evaluation or the change of a collection to another model; a job of another kind goes on to its end."""
    jobs = web_clients().state.jobs
    kind = jobs.get(path.id).kind
    if kind not in CANCELLABLE:
        raise Problem(409, "conflict", f"the job is of the kind {kind!r}, which cannot be cancelled: it goes on")
    jobs.cancel(path.id)
    return reply(job_answer(jobs.get(path.id)), 202)
