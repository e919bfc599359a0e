"""`artseek verify`: reads everything that is stored, compares it, and mends what can be mended."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.clients import System
from cli.command import command
from cli.options import as_json_option, checked_collection
from cli.printing.console import print_json
from cli.printing.progress import changing_spinner
from cli.printing.verification import print_report
from shared.rpc.query import QueryClient
from shared.verification.findings import Report
from shared.verification.repair import Repairer
from shared.verification.verifier import Extent, Verifier

if TYPE_CHECKING:
    from shared.state.jobs import Kind

_SAMPLE = 1000


@click.command()
@click.option("--collection", default=None, callback=checked_collection, help="Only this collection.  [default: all]")
@click.option("--repair", is_flag=True, help="Mend what can be mended.")
@click.option("--all-originals", is_flag=True, help=f"Read every original, not {_SAMPLE} of each collection.")
@as_json_option
@command
def verify(system: System, collection: str | None, *, repair: bool, all_originals: bool, as_json: bool) -> int:
    """Read everything that is stored, compare it, and tell what is damaged.

    Compared are originals, rows, claims, buckets, index generations, tombstones, evaluations, and what the query
    service serves. The system may be in use meanwhile. Exit status 0: whole, or all was mended; 1: there is damage.
    """
    extent = Extent(collection=collection, sample=None if all_originals else _SAMPLE)
    with system.query() as query:
        report = _verify(system, query, extent)
        if repair and report.findings:
            lost = Repairer(
                system, run_job=lambda kind, name: _run(system, kind, name), replica_folder=_replica_folder(system)
            ).repair(report)
            report = report.after_repair(_verify(system, query, replace(extent, sample=0)), lost)
    system.state.verifications.set(report.damage(), only=collection)
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report)
    return 0 if report.ok else 1


def _verify(system: System, query: QueryClient, extent: Extent) -> Report:
    with changing_spinner("verifying") as on_progress:
        return Verifier(system, query=query, on_progress=on_progress).verify(extent)


def _run(system: System, kind: str, collection: str) -> None:
    job_kind: Kind = "rebuild" if kind == "rebuild" else "compact"
    send = system.queue.rebuild if kind == "rebuild" else system.queue.compact
    system.run_job(job_kind, collection, lambda job: send(collection=collection, job=job))


def _replica_folder(system: System) -> Path | None:
    """Return the folder of the query service's copy, where it is on this machine."""
    folder = system.settings.query_copy
    return folder if folder.is_dir() else None
