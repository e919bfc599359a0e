"""`artseek regions`: the index of regions of a collection's images, by which a detail finds its picture."""

import math

import click

from cli.clients import System
from cli.command import command
from cli.options import SOME_REJECTED, as_json_option, in_collection
from cli.printing.console import err, print_json
from cli.printing.progress import job_bar
from cli.printing.regions import print_costs, print_regions
from shared.errors import ArtseekError
from shared.messaging.job_submission import submit, wait_for_end
from shared.schemas.jobs import refusal
from shared.schemas.regions import RegionsAnswer, regions_answer
from shared.state.outcomes import REFUSED


@click.group()
def regions() -> None:
    """Index regions of images, so that searches find a picture by a detail of it."""


@regions.command("status")
@in_collection
@as_json_option
@command
def show_regions(system: System, collection: str, *, as_json: bool) -> None:
    """Say whether regions of a collection's images are indexed, and what it costs to index those that are missing."""
    answer = _regions(system, collection)
    if as_json:
        print_json(answer)
    else:
        print_regions(answer)


@regions.command("on")
@in_collection
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@command
def switch_on(system: System, collection: str, *, yes: bool, as_json: bool) -> int:
    """Index regions of a collection's images, and wait until searches find all of them; asks first, and says the costs.

    Images that are added later get theirs by themselves.
    """
    found = _regions(system, collection)
    if not yes:
        print_costs(found)
        click.confirm("Index regions of the images?", abort=True, err=True)
    return _switch(system, collection, on=True, as_json=as_json)


@regions.command("off")
@in_collection
@as_json_option
@command
def switch_off(system: System, collection: str, *, as_json: bool) -> int:
    """Remove the index of regions of a collection's images, but for that of long pictures."""
    _regions(system, collection)
    return _switch(system, collection, on=False, as_json=as_json)


def _regions(system: System, collection: str) -> RegionsAnswer:
    with system.query() as query:
        return regions_answer(query.collection(collection), system.settings)


def _switch(system: System, collection: str, *, on: bool, as_json: bool) -> int:
    """Switch, wait until it is done, and print what there is then; returns the exit status.

    Raises:
        ArtseekError: It could not be done.
    """
    jobs, queue = system.state.jobs, system.queue
    system.note_change("regions", collection)
    job_id = submit(
        jobs, "regions", collection, lambda job: queue.switch_regions(job=job, collection=collection, on=on)
    )
    try:
        with job_bar(f"regions of {collection}") as on_progress:
            job = wait_for_end(
                jobs, job_id, deadline_s=math.inf, on_progress=lambda job: on_progress(job.steps, job.total)
            )
    except KeyboardInterrupt:
        err.print("\nartseek: interrupted; it goes on in the background, and the same command follows it")
        return 130
    rejected = jobs.outcome(job_id).rejected if job else ()
    for failure in rejected:
        if failure.code == REFUSED:
            raise ArtseekError(failure.reason)
    answer = _regions(system, collection)
    if as_json:
        print_json({**answer, "failed": [refusal(rejection) for rejection in rejected], "job": job_id})
    else:
        print_regions(answer, rejected)
    return SOME_REJECTED if rejected else 0
