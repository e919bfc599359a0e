"""`artseek map`: has the map of a collection made, on which images lie by their likeness."""

import math

import click

from cli.clients import System
from cli.command import RemoteSystem, command_anywhere
from cli.job_ends import check_end
from cli.options import as_json_option, in_collection
from cli.printing.console import err, out, plain, print_json
from cli.printing.progress import spinner
from cli.remote.jobs import wait_for_cancellable_job
from shared.schemas.jobs import JobAnswer, read_job_answer
from shared.state.job_ids import new_job_id


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
    check_end(job, "the map of the job")
    if as_json:
        print_json(job)
    else:
        out.print(f"{job['affected']:,} images are on the map of {plain(collection)}: its page shows it")
    return None


def _make(system: System, collection: str, *, anew: bool) -> JobAnswer:
    """Have the map made, and return the job when it has ended; Ctrl-C cancels it."""
    system.catalog.get(collection)
    job_id = new_job_id()
    system.run_cancellable_job(
        job_id,
        "map",
        collection,
        lambda job: system.queue.map(job=job, collection=collection, anew=anew),
        deadline_s=math.inf,
    )
    return read_job_answer(system.state.jobs, job_id)


def _make_remotely(system: RemoteSystem, collection: str, *, anew: bool) -> JobAnswer:
    path = f"/collections/{collection}/map{'?anew=true' if anew else ''}"
    return wait_for_cancellable_job(system.api, system.api.post(path, {})["job"])
