"""`artseek ingest`: adds the images of folders to a collection."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from cli.clients import System
from cli.command import RemoteSystem, command_anywhere
from cli.linking import check_linking, link_option
from cli.options import SOME_REJECTED, as_json_option, in_collection
from cli.printing.console import err, print_json
from cli.printing.ingest import print_summary
from cli.printing.progress import image_bar, spinner
from cli.remote.ingest import RemoteIngestion
from services.producer.ingest import IngestAnswer, duplicate_files
from services.producer.ingest import ingest as ingest_sources
from services.producer.sidecars import Sidecars
from shared.errors import ArtseekError, NotFound, Unavailable
from shared.folders import Source, walk
from shared.messaging.intake import Intake, IntakeOptions
from shared.passed_over import PassedOver
from shared.records.duplicates import DuplicateFile, note_duplicates
from shared.records.record_store import RecordStore
from shared.storage.documents import Documents


@click.command("ingest")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@in_collection
@click.option("--labels-from-folders", is_flag=True, help="Label an image with the subfolder of PATH it is in.")
@click.option(
    "--keep-labels", is_flag=True, help="Images that are there keep their labels; otherwise the newer label counts."
)
@link_option
@as_json_option
@command_anywhere
def ingest(
    system: System | RemoteSystem,
    paths: tuple[Path, ...],
    collection: str,
    *,
    labels_from_folders: bool,
    keep_labels: bool,
    link: bool,
    as_json: bool,
) -> int:
    """Add the images at PATH… to a collection.

    Videos, hidden files, sidecars and what systems leave in folders are passed over, and counted. A folder or file that
    cannot be read is listed with its reason, and the rest is taken. Of two files with the same
    path below PATH…, the second is known by the name of its PATH too, or by a number: `card2/1.jpg`, `1 (2).jpg`.

    Safe to interrupt and run again: what is already there counts as duplicate.
    """
    settings = system.settings
    if link:
        check_linking(system, paths)
    passed = PassedOver()
    sources = list(
        walk(paths, labels_from_folders=labels_from_folders, list_unreadable=True, passed_over=passed),
    )
    if isinstance(system, RemoteSystem):
        return _ingest_remotely(system, collection, sources, passed.counts, keep_labels=keep_labels, as_json=as_json)
    files = {source.name: source.path for source in sources}
    note = partial(_note, system, collection, keep_labels=keep_labels)
    options = IntakeOptions(
        batch_size=settings.batch_size,
        keep_labels=keep_labels,
        link=link,
        before_relabelling=lambda images: note(duplicate_files(images, files)),
    )
    intake = Intake(collection, system, options)
    system.store.ensure_bucket()
    system.note_change("ingest", collection)
    try:
        with image_bar(len(sources)) as on_progress:
            summary = ingest_sources(
                sources,
                intake=intake,
                max_bytes=settings.max_file_bytes,
                on_progress=on_progress,
                sidecars=Sidecars(RecordStore(system.store, system.state.record_changes), collection),
                roots=system.store.link_roots if link else None,
            )
        note(summary.duplicates)
        untuned = _maintain(system, collection)
    except KeyboardInterrupt:
        return _interrupted(intake.finished, len(sources))
    answer = summary.to_json(passed.counts)
    _print(answer, as_json=as_json)
    if untuned:
        err.print(f"All is added and found by an exact scan, but the index was not tuned: {untuned}", markup=False)
        return 1
    return _status(answer)


def _note(system: System, collection: str, files: Sequence[DuplicateFile], *, keep_labels: bool) -> None:
    """Note paths and labels of files whose contents are there; what fails is done by the same command again."""
    if not files:
        return
    records, documents = RecordStore(system.store, system.state.record_changes), Documents(system.store)
    try:
        with system.query() as query:
            note_duplicates(records, query, documents, collection, files, keep_labels=keep_labels)
    except (NotFound, Unavailable) as error:
        err.print(f"All is added, but not all paths are noted; run the same command again: {error}", markup=False)


def _maintain(system: System, collection: str) -> str:
    """Have the index tuned if the collection has outgrown it; returns why that failed, "" if it did not."""
    with spinner("tuning the index"):
        try:
            system.run_job("maintain", collection, lambda job: system.queue.maintain(collection=collection, job=job))
        except ArtseekError as error:
            return str(error)
    return ""


def _ingest_remotely(
    system: RemoteSystem,
    collection: str,
    sources: list[Source],
    skipped: dict[str, int],
    *,
    keep_labels: bool,
    as_json: bool,
) -> int:
    ingestion = RemoteIngestion(
        system.api,
        collection,
        max_bytes=min(system.settings.max_file_bytes, system.settings.max_upload_bytes),
        keep_labels=keep_labels,
    )
    try:
        with image_bar(len(sources)) as on_progress:
            answer = ingestion.run(sources, on_progress)
    except KeyboardInterrupt:
        return _interrupted(ingestion.finished, len(sources))
    _print({**answer, "skipped": skipped}, as_json=as_json)
    return _status(answer)


def _status(answer: IngestAnswer) -> int:
    """Return the exit status: an ingest that somebody cancelled has not added what was not sent by then."""
    if answer["state"] == "cancelled":
        return 1
    return SOME_REJECTED if answer["rejected"] else 0


def _interrupted(finished: int, total: int) -> int:
    err.print(
        f"\nartseek: interrupted with {finished} of {total} files done. What was sent goes on in the background; run "
        "the same command again for the rest."
    )
    return 130


def _print(answer: IngestAnswer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        print_summary(answer)
