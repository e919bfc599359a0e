"""Prints jobs."""

from collections.abc import Sequence

from rich.table import Table

from cli.printing.console import out, plain
from shared.schemas.jobs import JobAnswer, JobSummaryAnswer


def print_jobs(jobs: Sequence[JobSummaryAnswer], total: int) -> None:
    """Print a table of jobs, of which there are `total` in all."""
    if not jobs:
        out.print("There are no such jobs.")
        return
    table = Table()
    for title, whole in (("id", True), ("created", True), ("job", False), ("state", True), ("outcome", False)):
        table.add_column(title, no_wrap=whole, min_width=23 if title == "id" else None)  # ids are copied from here
    for job in jobs:
        table.add_row(
            plain(job["id"]),
            job["created"][:16].replace("T", " "),
            f"{job['kind']} {plain(job['collection'])}",
            job["state"],
            plain(_outcome(job)),
        )
    out.print(table)
    if total > len(jobs):
        out.print(f"{len(jobs)} of {total} jobs; --limit and --offset show others", style="dim")


def print_job(job: JobAnswer) -> None:
    """Print a job, and what was left out."""
    done = f", {job['finished']} of {job['total']}" if job["total"] else ""
    out.print(f"{plain(job['id'])}: {job['kind']} in {plain(job['collection'])}, {job['state']}{done}")
    out.print(
        f"{job['added']} added, {job['duplicates']} duplicates, {job['affected']} affected, "
        f"{len(job['rejected'])} left out"
    )
    if job["rejected"]:
        table = Table("left out", "why")
        for item in job["rejected"]:
            table.add_row(plain(item["name"]), plain(item["reason"]))
        out.print(table)


def _outcome(job: JobSummaryAnswer) -> str:
    """Return in a few words what became of a job so far."""
    parts = [
        f"{job['finished']} of {job['total']}" if job["total"] and job["state"] != "done" else "",
        f"{job['added']} added" if job["added"] else "",
        f"{job['affected']} affected" if job["affected"] else "",
        f"{job['rejected']} left out" if job["rejected"] else "",
    ]
    counts = ", ".join(part for part in parts if part)
    return f"{counts}: {job['reason']}" if counts and job["reason"] else counts or job["reason"]
