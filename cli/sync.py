"""`artseek sync`: keeps a collection in step with a folder."""

import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path

import click

from cli.clients import System
from cli.command import RemoteSystem, command_anywhere
from cli.linking import check_linking, link_option
from cli.options import SOME_REJECTED, as_json_option, in_collection
from cli.printing.console import print_error, print_json
from cli.printing.progress import image_bar, spinner
from cli.printing.sync import print_outcome
from cli.remote.sync import RemoteCollection
from services.producer.ingest import IngestAnswer, ingest
from services.producer.linking import relink
from services.producer.sidecars import Sidecars
from services.producer.sync.digest_cache import DigestCache, default_path
from services.producer.sync.plan import Notes, StoredImage
from services.producer.sync.run import SyncAnswer, SyncOptions, Target, sync, sync_answer
from services.producer.sync.scan import FoundFile, ScanOptions
from shared.errors import ArtseekError, NotFound
from shared.folders import Source
from shared.messaging.intake import Intake, IntakeOptions
from shared.records.editing import all_images, note_paths
from shared.records.paths import KnownPath
from shared.records.record_store import RecordStore
from shared.rpc.query import Image
from shared.schemas.images import record_of
from shared.schemas.paths import page_of
from shared.storage.layout import image_id

_TRASHED_AT_ONCE = 10_000  # images of a job


class LocalCollection:
    """A collection of the system that the settings name."""

    def __init__(self, system: System, collection: str, *, link: bool = False) -> None:
        self._system, self._collection, self._link = system, collection, link
        self._records = RecordStore(system.store, system.state.record_changes)

    def images(self) -> list[StoredImage]:
        """Return all images with their labels and paths; none, if there is no such collection."""
        try:
            with self._system.query() as query:
                return [_stored(image) for image in all_images(query, self._collection)]
        except NotFound:
            return []

    def note(self, notes: Notes) -> None:
        """Note paths, and the labels that folders give."""
        noted = {image_id(digest): paths for digest, paths in notes.paths.items()}
        labels = {image_id(digest): given for digest, given in notes.labels.items()}
        self._system.note_change("sync", self._collection, sorted({*noted, *labels}))
        with self._system.query() as query:
            note_paths(self._records, query, self._collection, noted, labels=labels)

    def add(self, sources: Sequence[Source]) -> IngestAnswer:
        """Add files, and wait until all are accounted for."""
        system, settings = self._system, self._system.settings
        system.store.ensure_bucket()
        system.note_change("ingest", self._collection)
        options = IntakeOptions(batch_size=settings.batch_size, keep_labels=True, link=self._link)
        with image_bar(len(sources)) as on_progress:
            summary = ingest(
                sources,
                intake=Intake(self._collection, system, options),
                max_bytes=settings.max_file_bytes,
                on_progress=on_progress,
                sidecars=Sidecars(self._records, self._collection),
                roots=system.store.link_roots if self._link else None,
            )
        return summary.to_json()

    def relink(self, files: Sequence[FoundFile]) -> None:
        """Have the links of images that are not copied lead to files with their content, too."""
        if self._system.store.link_roots:
            relink(
                self._system.store,
                self._system.state,
                [(file.digest, file.source.path) for file in files],
                also_missing=self._link,
            )

    def trash(self, image_ids: Sequence[int]) -> None:
        """Move images to the trash."""
        for start in range(0, len(image_ids), _TRASHED_AT_ONCE):
            some = image_ids[start : start + _TRASHED_AT_ONCE]
            self._system.run_job(
                "delete",
                self._collection,
                lambda job, some=some: self._system.queue.delete(  # type: ignore[misc]
                    job=job, collection=self._collection, image_ids=some
                ),
            )


@click.command("sync")
@click.argument("folder", type=click.Path(path_type=Path))
@in_collection
@click.option("--watch", "watching", is_flag=True, help="Go on, and follow what changes in the folder.")
@click.option(
    "--scan-every",
    default=300.0,
    show_default=True,
    type=click.FloatRange(1.0),
    help="With --watch: seconds after which the folder is scanned anyway, since network shares tell no changes.",
)
@click.option("--prune", is_flag=True, help="Move images to the trash that no file of the folder has any more.")
@click.option(
    "--allow-vanished",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.0, 100.0),
    help="Percentage of the known files that may have vanished.",
)
@click.option("--labels-from-folders", is_flag=True, help="Label an image with the subfolders of FOLDER it is in.")
@click.option("--retry-rejected", is_flag=True, help="Try files again that were rejected before.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@link_option
@as_json_option
@command_anywhere
def sync_folder(  # noqa: PLR0913 -- its options
    system: System | RemoteSystem,
    *,
    folder: Path,
    collection: str,
    watching: bool,
    scan_every: float,
    prune: bool,
    allow_vanished: float,
    labels_from_folders: bool,
    retry_rejected: bool,
    dry_run: bool,
    link: bool,
    as_json: bool,
) -> int:
    """Bring a collection in step with FOLDER: what is new or changed there is added, what moved is known elsewhere.

    A file that was moved or renamed is not embedded again. Files that have vanished are marked; with --prune, images
    that no file has any more go to the trash. If FOLDER is missing, or more files have vanished than may, nothing is
    changed. Files that still grow are left for the next time.

    Safe to interrupt and run again.
    """
    if watching and dry_run:
        raise click.UsageError("--watch goes on until it is stopped: leave out --dry-run")
    if link:
        check_linking(system, [folder])
    scan_options = ScanOptions(
        max_bytes=_max_bytes(system),
        judge=_judge(system),
        retry_rejected=retry_rejected,
        labels_from_folders=labels_from_folders,
    )
    options = SyncOptions(scan_options, prune=prune, allow_vanished=allow_vanished, dry_run=dry_run)
    with closing(DigestCache(default_path())) as cache:
        once = partial(_sync_once, system, folder, collection, cache, options, link=link, as_json=as_json)
        if not watching:
            return SOME_REJECTED if once()["rejected"] else 0
        from cli.watching import watch  # noqa: PLC0415 -- it takes a while, and no other command needs it

        watch(folder, partial(_sync_and_tell, once), every_s=scan_every)
    return 0


def _sync_and_tell(once: partial[SyncAnswer]) -> bool:
    """Bring the collection in step, and tell a failure; returns whether some files still grow."""
    try:
        return "growing" in once()["skipped_kinds"]
    except (ArtseekError, OSError) as error:  # it may pass: a disk is mounted again, a server is back
        print_error(error)
        return False


def _sync_once(
    system: System | RemoteSystem,
    folder: Path,
    collection: str,
    cache: DigestCache,
    options: SyncOptions,
    *,
    link: bool,
    as_json: bool,
) -> SyncAnswer:
    began = time.monotonic()
    target: Target
    if isinstance(system, RemoteSystem):
        target = RemoteCollection(system.api, collection, max_bytes=options.scan.max_bytes)
    else:
        target = LocalCollection(system, collection, link=link)
    outcome = sync(folder, target, cache, options)
    if outcome.embedded and isinstance(system, System) and not options.dry_run:
        with spinner("tuning the index"):
            system.run_job("maintain", collection, lambda job: system.queue.maintain(collection=collection, job=job))
    answer = sync_answer(folder, collection, outcome, dry_run=options.dry_run, seconds=time.monotonic() - began)
    if as_json:
        print_json(answer)
    else:
        print_outcome(answer)
    return answer


def _max_bytes(system: System | RemoteSystem) -> int:
    settings = system.settings
    if isinstance(system, RemoteSystem):
        return min(settings.max_file_bytes, settings.max_upload_bytes)
    return settings.max_file_bytes


def _judge(system: System | RemoteSystem) -> str:
    """Return who refuses files: another version, or another system, may take them."""
    return f"{system.settings.url} {version('artseek')}"


def _stored(image: Image) -> StoredImage:
    paths = tuple(KnownPath(**path) for path in record_of(image)["paths"])
    return StoredImage(image.id, image.digest, image.name, tuple(image.labels), paths, page_of(image))
