"""Prints which part of the system is up, and what waits in the queues."""

from collections.abc import Mapping

from rich.table import Table

from cli.printing.console import out, plain
from shared.health.readiness import ReadinessAnswer


def print_status(readiness: ReadinessAnswer, waiting: Mapping[str, int]) -> None:
    """Print a table of the parts, and a line for each queue."""
    table = Table("part", "state", "reason")
    for name, part in readiness["parts"].items():
        state = "[red]down[/]" if not part["up"] else "[yellow]degraded[/]" if part["reason"] else "[green]up[/]"
        table.add_row(name, state, plain(part["reason"] or ""))
    out.print(table)
    for queue, count in waiting.items():
        out.print(f"{count} tasks wait in the {queue} queue")
