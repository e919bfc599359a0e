"""What the commands of `artseek` have in common: the running system, exit status, errors, options."""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from cli.printing.console import err, print_error
from shared.errors import ArtseekError, Unavailable
from shared.logs import configure
from shared.messaging.celery_app import make_app
from shared.messaging.job_submission import submit, wait_for_end
from shared.messaging.worker import WorkerClients, connect_worker
from shared.rpc.query import QueryClient
from shared.settings import Settings, load_settings
from shared.state import Job
from shared.state.jobs import Kind
from shared.storage.layout import collection_name

_JOB_PATIENCE_S = 3600.0

SOME_LEFT_OUT = 3
"""Exit status of a command that did its work but left some images out."""


@dataclass(frozen=True, kw_only=True)
class System(WorkerClients):
    """The clients of the running system, and the settings that say how to reach it."""

    settings: Settings

    def query(self) -> QueryClient:
        """Return a client of the query service."""
        return QueryClient(self.settings.query_target)

    def run_job(self, kind: Kind, collection: str, send: Callable[[str], None]) -> Job:
        """Submit a job whose task `send` sends, and wait for its end.

        Raises:
            ArtseekError: The job failed, or has not ended within an hour.
        """
        job_id = submit(self.state.jobs, kind, collection, send)
        job = wait_for_end(self.state.jobs, job_id, deadline_s=_JOB_PATIENCE_S)
        if job is None:
            raise Unavailable(
                f"the {kind} job {job_id} has not ended within {_JOB_PATIENCE_S / 3600:g} h; see `artseek status`"
            )
        for failure in job.outcome.rejected:
            raise ArtseekError(failure.reason)
        return job


def connect_system(settings: Settings) -> System:
    """Return the clients of the system that the settings name; nothing is sent yet."""
    base = connect_worker(settings, make_app(settings, name="producer"))
    return System(
        store=base.store, state=base.state, connect_model=base.connect_model, queue=base.queue, settings=settings
    )


def command(run: Callable[..., int | None]) -> Callable[..., None]:
    """Give a command the running system, and turn its errors into a line and an exit status."""

    @functools.wraps(run)
    def wrapper(*arguments: Any, **options: Any) -> None:
        try:
            settings = load_settings()
            configure("WARNING")
            status = run(connect_system(settings), *arguments, **options)
        except (ArtseekError, OSError) as error:
            print_error(error)
            if isinstance(error, Unavailable):
                err.print("Is the system running? `artseek status` tells which part is not.", style="dim")
            sys.exit(1)
        except ValueError as error:  # settings that do not fit: pydantic names each of them
            print_error(error)
            sys.exit(1)
        except KeyboardInterrupt:
            err.print("\nartseek: interrupted")
            sys.exit(130)
        sys.exit(status or 0)

    return wrapper


def checked_collection(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return the value of an option if it can name a collection, or is not given."""
    try:
        return None if value is None else collection_name(value)
    except ArtseekError as error:
        raise click.BadParameter(str(error)) from error


in_collection = click.option(
    "--collection", default="default", show_default=True, callback=checked_collection, help="Name of the collection."
)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
