"""The pages of the jobs: the list of all, and one job with what it left out; cancelling a job."""

from typing import Literal, get_args

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from services.web.access import GuardedBlueprint, each, of_job
from services.web.api.inputs import CollectionName, Input, JobPath, Page, checked
from services.web.api.jobs import names_of_seen_jobs
from services.web.clients import web_clients
from services.web.languages import marked, translated
from services.web.pages.fields import read_fields
from shared.schemas.jobs import job_answer, job_summary
from shared.state.jobs import CANCELLABLE, Kind, State

_PAGE = 50  # jobs of one page
_REASONS = 500  # of one job

KIND_TITLES: dict[str, str] = {
    "ingest": marked("Ingest"),
    "delete": marked("Deletion"),
    "restore": marked("Restoring"),
    "drop": marked("Collection dropped"),
    "rename": marked("Renaming"),
    "maintain": marked("Upkeep of the index"),
    "rebuild": marked("Rebuild"),
    "compact": marked("Compaction"),
    "tune": marked("Tuning"),
    "change-model": marked("Change of model"),
    "regions": marked("Index of regions"),
    "evaluate": marked("Evaluation"),
    "duplicates": marked("Search for duplicates"),
    "map": marked("Map"),
}

blueprint = GuardedBlueprint("jobs", __name__)
blueprint.add_app_template_filter(lambda kind: translated(KIND_TITLES.get(kind, kind.capitalize())), "kind_title")


class JobsView(Input):
    """Which jobs are shown, and which page of them."""

    collection: CollectionName | Literal[""] = ""
    kind: Literal[Kind, ""] = ""
    state: Literal[State, ""] = ""
    page: Page = 1


@blueprint.get("/jobs", access=each("inspect", signed_in=True))
def jobs_page() -> ResponseReturnValue:
    """Show the jobs, the newest first."""
    view = read_fields(JobsView, request.args.to_dict(flat=False))
    jobs, total = web_clients().state.jobs.page(
        collection=view.collection,
        kind=view.kind,
        states=[view.state] if view.state else [],
        within=names_of_seen_jobs(),
        offset=(view.page - 1) * _PAGE,
        limit=_PAGE,
    )
    return render_template(
        "jobs.html",
        jobs=[job_summary(job) for job in jobs],
        total=total,
        view=view,
        kinds=get_args(Kind),
        states=get_args(State),
        pages=max(1, -(-total // _PAGE)),
    )


@blueprint.get("/jobs/<id>", access=of_job("inspect"))
def job_page(id: str) -> ResponseReturnValue:  # noqa: A002 -- as the API calls it
    """Show a job, with what it left out and why."""
    path = checked(JobPath, {"id": id}, "job")
    jobs = web_clients().state.jobs
    job = jobs.get(path.id)
    answer = job_answer(job, jobs.outcome(path.id))
    rejected = answer["rejected"]
    return render_template(
        "job.html", job=answer, summary=job_summary(job), rejected=rejected[:_REASONS], more=len(rejected[_REASONS:])
    )


@blueprint.post("/jobs/<id>/cancel", access=of_job("change"))
def cancel(id: str) -> ResponseReturnValue:  # noqa: A002
    """Cancel a job, and show it."""
    path = checked(JobPath, {"id": id}, "job")
    jobs = web_clients().state.jobs
    if jobs.get(path.id).kind in CANCELLABLE:
        jobs.cancel(path.id)
    return redirect(url_for("jobs.job_page", id=path.id), code=303)
