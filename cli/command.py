"""What the commands of `artseek` have in common: the running system, errors, options, printing."""

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console

from shared.errors import ArtseekError, Unavailable
from shared.logs import configure
from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import TaskQueue
from shared.rpc.query import QueryClient
from shared.settings import Settings, load_settings
from shared.state import Job, Jobs, State, connect
from shared.state.jobs import Kind, new_job_id
from shared.storage.catalog import Catalog
from shared.storage.layout import collection_name
from shared.storage.object_store import ObjectStore

_JOB_PATIENCE_S = 3600.0
_POLL_S = 0.2

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class System:
    """The running system, as the settings say how to reach it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        index = connect(settings.index_url.get_secret_value())
        self.store = ObjectStore.from_settings(settings)
        self.catalog = Catalog(self.store)
        self.state = State.of(index)
        self.jobs = Jobs(index)
        self.queue = TaskQueue(make_app(settings, name="producer"))

    def query(self) -> QueryClient:
        """Return a client of the query service."""
        return QueryClient(self.settings.query_target)

    def run_job(self, kind: Kind, collection: str, send: Callable[[str], None]) -> Job:
        """Create a job, have `send` put it onto the queue, and wait for its end.

        Raises:
            ArtseekError: It failed.
        """
        job = new_job_id()
        self.jobs.create(job, collection, kind=kind)
        send(job)
        until = time.monotonic() + _JOB_PATIENCE_S
        while time.monotonic() < until:
            try:
                state = self.jobs.get(job)
                if state.done:
                    for failure in state.outcome.rejected:
                        raise ArtseekError(failure.reason)
                    return state
            except Unavailable:
                pass  # a server restarts; the job goes on when it is back
            time.sleep(_POLL_S)
        raise Unavailable(
            f"the {kind} job {job} has not ended within {_JOB_PATIENCE_S / 3600:g} h; see `artseek status`"
        )


def command(run: Callable[..., int | None]) -> Callable[..., None]:
    """Give a command the running system, and turn its errors into a line and an exit status."""

    @functools.wraps(run)
    def wrapper(*arguments: Any, **options: Any) -> None:
        try:
            settings = load_settings()
            configure("WARNING")
            status = run(System(settings), *arguments, **options)
        except (ArtseekError, OSError) as error:
            err.print(f"artseek: {error}", style="red", markup=False)
            if isinstance(error, Unavailable):
                err.print("Is the system running? `artseek status` tells which part is not.", style="dim")
            sys.exit(1)
        except ValueError as error:  # settings that do not fit: pydantic names each of them
            err.print(f"artseek: {error}", style="red", markup=False)
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


def print_json(value: object) -> None:
    """Print a result as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def plain(text: str) -> str:
    """Return text that the terminal shows as it is: no markup, no control characters."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return shown.replace("[", r"\[")
