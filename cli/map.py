"""`artseek map`: has the map of a collection made, on which images lie by their likeness."""

import math
from contextlib import suppress

import click

from cli.clients import System
from cli.command import RemoteSystem, command_anywhere
from cli.options import as_json_option, in_collection
from cli.printing.console import err, out, plain, print_json
from cli.printing.progress import spinner
from cli.remote.jobs import wait_for_job
from shared.errors import ArtseekError, NotFound
from shared.messaging.job_submission import submit, wait_for_end
from shared.schemas.jobs import JobAnswer, job_answer
from shared.state.jobs import new_job_id


@click.command("map")
@in_collection
@click.option("--anew", is_flag=True, help="Fit it again, so that all images get other places.")
@as_json_option
@command_anywhere
def make_map(system: System | RemoteSystem, *, collection: str, anew: bool, as_json: bool) -> int | None:
    """Lay the images of a collection out by likeness, or place those that came later on its map, and wait.

    The collection's page shows the map. Ctrl-C cancels the making of it, and leaves the map as it was.
    """
    try:
        with spinner(f"map of {collection}"):
            if isinstance(system, RemoteSystem):
                job = _make_remotely(system, collection, anew=anew)
            else:
                job = _make(system, collection, anew=anew)
    except KeyboardInterrupt:
        err.print("\nartseek: cancelled")
        return 130
    for failure in job["rejected"]:
        raise ArtseekError(failure["reason"])
    if as_json:
        print_json(job)
    else:
        out.print(f"{job['affected']:,} images are on the map of {plain(collection)}: its page shows it")
    return None


def _make(system: System, collection: str, *, anew: bool) -> JobAnswer:
    """Have the map made, and return the job when it has ended; Ctrl-C cancels it."""
    system.catalog.get(collection)
    system.note_change("map", collection)
    jobs, job_id = system.state.jobs, new_job_id()
    try:
        submit(
            jobs,
            "map",
            collection,
            lambda job: system.queue.map(job=job, collection=collection, anew=anew),
            job_id=job_id,
        )
        wait_for_end(jobs, job_id, deadline_s=math.inf)
    except KeyboardInterrupt:
        with suppress(NotFound):
            jobs.cancel(job_id)
        raise
    return job_answer(jobs.get(job_id))


def _make_remotely(system: RemoteSystem, collection: str, *, anew: bool) -> JobAnswer:
    path = f"/collections/{collection}/map{'?anew=true' if anew else ''}"
    started = system.api.post(path, {})["job"]
    try:
        return wait_for_job(system.api, started)
    except KeyboardInterrupt:
        with suppress(NotFound):
            system.api.delete(f"/jobs/{started}")
        raise
