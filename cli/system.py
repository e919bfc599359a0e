"""`artseek up` and `artseek status`: the whole system on this machine, and which part of a system is up."""

import os
import sys
from pathlib import Path

import click

from cli.clients import System
from cli.command import command
from cli.options import as_json_option
from cli.printing.console import print_json
from cli.printing.system import print_status
from shared.errors import Unavailable
from shared.health.readiness import Readiness


@click.command()
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Data folder  [default: $ARTSEEK_DATA or ./data]"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the page listens at.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port of the page.")
@click.option("--insecure", is_flag=True, help="Let everybody who reaches the page do everything, without a log-in.")
def up(data: Path | None, host: str, port: int, *, insecure: bool) -> None:
    """Run the whole system on this machine, in the foreground until Ctrl-C."""
    command = [sys.executable, "-m", "local", f"--host={host}", f"--port={port}"]
    if insecure:
        command.append("--insecure")
    if data is not None:
        command.append(f"--data={data}")  # one word: a folder's name may begin with a dash
    os.execv(sys.executable, command)  # noqa: S606 -- the local system takes this process's place, and its Ctrl-C


@click.command()
@as_json_option
@command
def status(system: System, *, as_json: bool) -> int:
    """Tell which part of the system is up, and what waits in the queues."""
    readiness = Readiness(system.settings).ask()
    try:
        waiting = system.queue.waiting()
    except Unavailable:
        waiting = {}
    if as_json:
        print_json({**readiness, "waiting": waiting})
        return 0 if readiness["ready"] else 1
    print_status(readiness, waiting)
    return 0 if readiness["ready"] else 1
