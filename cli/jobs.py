"""`artseek jobs`: lists jobs, shows one, cancels one."""

from typing import get_args

import click

from cli.clients import System
from cli.command import command
from cli.options import as_json_option, checked_collection
from cli.printing.console import out, plain, print_json
from cli.printing.jobs import print_job, print_jobs
from shared.schemas.jobs import JobsAnswer, job_summary, read_job_answer
from shared.state.jobs import Kind, State


@click.group("jobs", invoke_without_command=True)
@as_json_option
@click.pass_context
def jobs(context: click.Context, *, as_json: bool) -> None:
    """List the jobs of the last week, show one, or cancel one; without a command, list the newest."""
    if context.invoked_subcommand is None:
        context.invoke(list_jobs, as_json=as_json)


@jobs.command("list")
@click.option("--collection", callback=checked_collection, help="Only jobs of this collection.")
@click.option("--kind", type=click.Choice(get_args(Kind)), help="Only jobs of this kind.")
@click.option("--state", type=click.Choice(get_args(State)), help="Only jobs in this state.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="Number of jobs.")
@click.option("--offset", default=0, show_default=True, type=click.IntRange(0), help="Number of jobs to pass over.")
@as_json_option
@command
def list_jobs(
    system: System,
    collection: str | None = None,
    kind: str | None = None,
    state: str | None = None,
    limit: int = 20,
    offset: int = 0,
    *,
    as_json: bool,
) -> None:
    """List jobs, the newest first."""
    found, total = system.state.jobs.page(
        collection=collection or "", kind=kind or "", states=[state] if state else [], offset=offset, limit=limit
    )
    summaries = [job_summary(job) for job in found]
    if as_json:
        print_json(JobsAnswer(jobs=summaries, total=total, limit=limit, offset=offset))
    else:
        print_jobs(summaries, total)


@jobs.command()
@click.argument("job_id", metavar="ID")
@as_json_option
@command
def show(system: System, job_id: str, *, as_json: bool) -> None:
    """Show a job: how far it is, what came of it, and what was left out and why."""
    answer = read_job_answer(system.state.jobs, job_id)
    if as_json:
        print_json(answer)
    else:
        print_job(answer)


@jobs.command()
@click.argument("job_id", metavar="ID")
@as_json_option
@command
def cancel(system: System, job_id: str, *, as_json: bool) -> None:
    """Cancel an ingest, an evaluation, a search for duplicates, a map or a change of model.

    It ends at its next step. Of an ingest, what is added stays, and the rest is not added.
    """
    system.state.jobs.cancel(job_id)
    answer = read_job_answer(system.state.jobs, job_id)
    if as_json:
        print_json(answer)
    elif answer["state"] in {"open", "running"}:
        out.print(f"{plain(job_id)} ends at its next step")
    else:
        out.print(f"{plain(job_id)} has ended: {answer['state']}")
