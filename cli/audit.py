"""`artseek audit`: who changed what."""

import sys

import click

from cli.clients import System
from cli.command import command
from cli.options import as_json_option, checked_collection
from cli.printing.access import print_audit
from shared.access.audit import AuditLog, json_lines


@click.command()
@click.option("--collection", callback=checked_collection, help="Only entries of this collection.")
@click.option("--who", default="", help="Only entries of those whose name contains this.")
@click.option(
    "--days", default=7, show_default=True, type=click.IntRange(1), help="Days to look at, of those with entries."
)
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="Number of entries.")
@as_json_option
@command
def audit(system: System, collection: str | None, who: str, days: int, limit: int, *, as_json: bool) -> None:
    """Show the audit log, the latest entry first; with --json, as JSON lines."""
    entries = AuditLog(system.store).latest(most=limit, days=days, collection=collection or "", who=who)
    if as_json:
        sys.stdout.writelines(json_lines(entries))
    else:
        print_audit([entry.to_answer() for entry in entries])
