"""`artseek ingest`: adds the images of folders to a collection."""

from pathlib import Path

import click

from cli.command import SOME_LEFT_OUT, System, as_json_option, command, in_collection
from cli.printing.console import err, print_json
from cli.printing.ingest import print_summary
from cli.printing.progress import image_bar, spinner
from services.producer.ingest import ingest as ingest_sources
from shared.errors import ArtseekError
from shared.folders import walk
from shared.messaging.intake import Intake, IntakeOptions


@click.command("ingest")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@in_collection
@click.option("--labels-from-folders", is_flag=True, help="Label an image with the subfolder of PATH it is in.")
@as_json_option
@command
def ingest(
    system: System, paths: tuple[Path, ...], collection: str, *, labels_from_folders: bool, as_json: bool
) -> int:
    """Add the images at PATH… to a collection.

    Safe to interrupt and run again: what is already there counts as duplicate.
    """
    settings = system.settings
    sources = list(walk(paths, labels_from_folders=labels_from_folders))
    intake = Intake(collection, system, IntakeOptions(batch_size=settings.batch_size))
    system.store.ensure_bucket()
    try:
        with image_bar(len(sources)) as on_progress:
            summary = ingest_sources(
                sources,
                intake=intake,
                max_bytes=settings.max_file_bytes,
                stalled_after_s=settings.visibility_timeout + 15.0,
                on_progress=on_progress,
            )
        untuned = _maintain(system, collection)
    except KeyboardInterrupt:
        err.print(
            f"\nartseek: interrupted with {intake.finished} of {len(sources)} files done. What was sent goes on in the "
            "background; run the same command again for the rest."
        )
        return 130
    if as_json:
        print_json(summary.to_json())
    else:
        print_summary(summary)
    if untuned:
        err.print(f"All is added and found by an exact scan, but the index was not tuned: {untuned}", markup=False)
        return 1
    return SOME_LEFT_OUT if summary.job.outcome.rejected else 0


def _maintain(system: System, collection: str) -> str:
    """Have the index tuned if the collection has outgrown it; returns why that failed, "" if it did not."""
    with spinner("tuning the index"):
        try:
            system.run_job("maintain", collection, lambda job: system.queue.maintain(collection=collection, job=job))
        except ArtseekError as error:
            return str(error)
    return ""
