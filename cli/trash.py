"""`artseek trash`: lists, restores and purges what was deleted from a collection."""

from datetime import UTC, datetime

import click
from rich.table import Table

from cli.clients import System
from cli.command import command
from cli.options import as_json_option, in_collection
from cli.printing.console import out, plain, print_error, print_json
from cli.printing.progress import spinner
from shared.errors import ArtseekError, Unavailable
from shared.index.restoring import restore, trash_page
from shared.messaging.job_submission import wait_for_end
from shared.schemas.trash import trash_answer
from shared.storage.trash import TrashEntry

_PATIENCE_S = 600.0
_ALL = 1_000_000
_AT_ONCE = 10_000  # images of a job


@click.group()
def trash() -> None:
    """Look into the trash of a collection, restore images from it, or empty it."""


@trash.command("list")
@in_collection
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="Number of images.")
@click.option("--offset", default=0, show_default=True, type=click.IntRange(0), help="Number of images to pass over.")
@as_json_option
@command
def list_trash(system: System, collection: str, *, limit: int, offset: int, as_json: bool) -> None:
    """List the images that can be restored, the latest deleted first."""
    page = trash_page(system, collection, limit=limit, offset=offset)
    if as_json:
        days = system.settings.trash_days
        print_json(trash_answer(collection, page, limit=limit, offset=offset, days=days))
        return
    table = Table("id", "name", "label", "deleted")
    for entry in page.entries:
        deleted = datetime.fromtimestamp(entry.deleted, UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(str(entry.id), plain(entry.name), plain(entry.label or ""), deleted)
    if page.entries:
        out.print(table)
    out.print(f"{len(page.entries)} of {page.total} images; they stay for {system.settings.trash_days:g} days")


@trash.command("restore")
@click.argument("ids", nargs=-1, type=int)
@in_collection
@click.option("--all", "everything", is_flag=True, help="Restore all images of the trash.")
@as_json_option
@command
def restore_images(system: System, ids: tuple[int, ...], collection: str, *, everything: bool, as_json: bool) -> int:
    """Restore images by their IDs, with their labels and the dates on which they were added."""
    if bool(ids) == everything:
        raise click.UsageError("give IDs, or --all")
    wanted = [entry.id for entry in _entries(system, collection)] if everything else list(dict.fromkeys(ids))
    jobs: dict[int, str] = {}
    failures: dict[int, str] = {}
    system.note_change("restore", collection, wanted)
    with spinner("restoring"):
        for image_id in wanted:
            try:
                jobs[image_id] = restore(system, collection, image_id)
            except Unavailable:
                raise
            except ArtseekError as error:
                failures[image_id] = str(error)
        for image_id, job_id in jobs.items():
            job = wait_for_end(system.state.jobs, job_id, deadline_s=_PATIENCE_S)
            if job is None:
                raise Unavailable(f"the restore job {job_id} has not ended within {_PATIENCE_S / 60:g} minutes")
            if job.counts.rejected:
                failures[image_id] = job.counts.reason
    restored = len(wanted) - len(failures)
    if as_json:
        failed = [{"id": image_id, "reason": reason} for image_id, reason in failures.items()]
        print_json({"collection": collection, "restored": restored, "failed": failed})
    else:
        for image_id, reason in failures.items():
            print_error(f"{image_id}: {reason}")
        out.print(f"{restored} restored")
    return 1 if failures else 0


@trash.command("empty")
@in_collection
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@command
def empty(system: System, collection: str, *, yes: bool, as_json: bool) -> int:
    """Remove the images of the trash for good."""
    ids = [entry.id for entry in _entries(system, collection)]
    if ids and not yes:
        click.confirm(f"Remove {len(ids)} images of {collection} for good?", abort=True, err=True)
    purged = 0
    with spinner("purging"):
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            job = system.run_job(
                "delete",
                collection,
                lambda job, some=some: system.queue.delete(  # type: ignore[misc]
                    job=job, collection=collection, image_ids=some, from_trash=True
                ),
            )
            purged += job.counts.affected
    if as_json:
        print_json({"collection": collection, "purged": purged})
    else:
        out.print(f"{purged} removed for good")
    return 0


def _entries(system: System, collection: str) -> list[TrashEntry]:
    return trash_page(system, collection, limit=_ALL, offset=0).entries
