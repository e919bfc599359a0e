"""Jobs: what became of what was handed in."""

from flask.typing import ResponseReturnValue

from services.web.access import each, of_job, open_collections
from services.web.api.inputs import JobListing, JobPath
from services.web.api.openapi import Answer
from services.web.api.operations import api, reply
from services.web.clients import web_clients
from services.web.problems import Problem
from shared.errors import Unavailable
from shared.schemas.jobs import JobAnswer, JobsAnswer, JobSummaryAnswer, job_summary, read_job_answer
from shared.state.jobs import CANCELLABLE


@api.operation(
    "GET",
    "/jobs",
    rule=each("inspect", signed_in=True),
    query_model=JobListing,
    answers={200: Answer("A part of the jobs.", JobsAnswer)},
    problems=(503,),
)
def list_jobs(query: JobListing) -> ResponseReturnValue:
    """List the jobs, the newest first; they are kept for a week."""
    jobs, total = web_clients().state.jobs.page(
        collection=query.collection,
        kind=query.kind,
        states=[query.state] if query.state else [],
        within=names_of_seen_jobs(),
        offset=query.offset,
        limit=query.limit,
    )
    summaries = [job_summary(job) for job in jobs]
    return reply(JobsAnswer(jobs=summaries, total=total, limit=query.limit, offset=query.offset))


@api.operation(
    "GET",
    "/jobs/{id}",
    rule=of_job("inspect"),
    path_model=JobPath,
    answers={200: Answer("The job as it stands.", JobAnswer)},
    problems=(404, 503),
)
def get_job(path: JobPath) -> ResponseReturnValue:
    """Tell how a job stands, and name what it left out; jobs are kept for a week."""
    return reply(read_job_answer(web_clients().state.jobs, path.id))


@api.operation(
    "GET",
    "/jobs/{id}/summary",
    rule=of_job("inspect"),
    path_model=JobPath,
    answers={200: Answer("The job as it stands, in numbers.", JobSummaryAnswer)},
    problems=(404, 503),
)
def get_job_summary(path: JobPath) -> ResponseReturnValue:
    """Tell how a job stands, in numbers: whoever follows a job asks for these until it has ended."""
    return reply(job_summary(web_clients().state.jobs.get(path.id)))


@api.operation(
    "DELETE",
    "/jobs/{id}",
    rule=of_job("change"),
    path_model=JobPath,
    answers={202: Answer("It ends at its next step.", JobAnswer)},
    problems=(404, 409, 503),
)
def cancel_job(path: JobPath) -> ResponseReturnValue:
    """Cancel an ingest, an evaluation, a search for duplicates, a map or a change of model; any other job goes on.

    Of an ingest, what is added stays, and the rest is not added. Of the others, nothing is left.
    """
    jobs = web_clients().state.jobs
    kind = jobs.get(path.id).kind
    if kind not in CANCELLABLE:
        raise Problem(409, "conflict", f"the job is of the kind {kind!r}, which cannot be cancelled: it goes on")
    jobs.cancel(path.id)
    return reply(read_job_answer(jobs, path.id), 202)


def names_of_seen_jobs() -> frozenset[str] | None:
    """Return the collections whose jobs the requester sees, by the names that they have and had; None: all jobs."""
    names = open_collections("inspect")
    if not names:
        return names
    try:
        return names | web_clients().catalog.former_names(names)
    except Unavailable:  # the store is away; the jobs are not
        return names
