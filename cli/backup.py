"""`artseek backup` and `artseek restore`: consistent copies of the running system, and their way back."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import click

from cli.clients import System
from cli.command import command
from cli.options import as_json_option
from cli.printing.backup import print_backup, print_check, print_restore, print_snapshots
from cli.printing.console import err, print_json
from cli.printing.progress import object_bar, spinner
from shared.backup import target_of
from shared.backup.backing_up import back_up
from shared.backup.checking import check_entries, check_repository
from shared.backup.cleaning import Cleaned, keep_latest
from shared.backup.model_files import restore_models
from shared.backup.repository import Damaged, Repository
from shared.backup.restoring import Restored, Restorer
from shared.backup.snapshot import Snapshot
from shared.errors import Invalid, Locked
from shared.schemas.backups import SnapshotAnswer, backup_answer, check_answer, restore_answer, snapshot_answer


@click.command()
@click.argument("target")
@click.option(
    "--keep", type=click.IntRange(1), metavar="N", help="Keep the latest N backups in TARGET, drop the others."
)
@click.option("--with-secrets", is_flag=True, help="Put passwords and keys among the settings in the backup.")
@click.option("--verify", is_flag=True, help="Back nothing up: read all of TARGET, and compare every digest.")
@as_json_option
@command
def backup(system: System, target: str, keep: int | None, *, with_secrets: bool, verify: bool, as_json: bool) -> int:
    """Copy the running system to TARGET, a folder or s3://BUCKET/PREFIX: what is not there yet.

    Exit status 1: the backup holds an original that is damaged in the system; with --verify: a backup is damaged.
    """
    if verify and (keep or with_secrets):
        raise click.UsageError("--verify goes with neither --keep nor --with-secrets")
    place = target_of(target, system.settings)
    if verify:
        with object_bar("reading") as on_progress:
            check = check_repository(Repository.open(place), on_progress)
        if as_json:
            print_json(check_answer(check))
        else:
            print_check(check)
        return 0 if check.ok else 1
    started = time.monotonic()
    with object_bar("copying objects") as on_progress:
        result = back_up(
            system, Repository.create(place), system.settings, with_secrets=with_secrets, on_progress=on_progress
        )
    cleaned = Cleaned()
    if keep:
        with spinner("dropping old backups"):
            try:
                cleaned = keep_latest(Repository(place), keep)
            except Locked as error:
                err.print(f"Old backups stay until the next time: {error}", markup=False)
    if as_json:
        print_json(backup_answer(result, cleaned, target=str(place), seconds=time.monotonic() - started))
    else:
        print_backup(result, cleaned, str(place))
    return 1 if result.header.damaged else 0


@click.command()
@click.argument("source")
@click.option("--snapshot", metavar="ID", help="The backup, by the beginning of its id.  [default: the latest]")
@click.option("--list", "only_list", is_flag=True, help="Only list the backups in SOURCE.")
@click.option("--replace", is_flag=True, help="Delete all that the system holds first.")
@click.option("--yes", is_flag=True, help="Do not ask before --replace deletes.")
@click.option("--without-damaged", is_flag=True, help="Leave out what is missing or damaged in the backup.")
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the settings in the backup to this file.",
)
@as_json_option
@command
def restore(
    system: System,
    source: str,
    snapshot: str | None,
    settings_file: Path | None,
    *,
    only_list: bool,
    replace: bool,
    yes: bool,
    without_damaged: bool,
    as_json: bool,
) -> int:
    """Restore a backup in SOURCE, a folder or s3://BUCKET/PREFIX, into the running system, which must be empty.

    A restore that was interrupted goes on when it is run again. Exit status 1: it failed, or something was left out.
    """
    repository = Repository.open(target_of(source, system.settings))
    if only_list:
        _list(repository, as_json=as_json)
        return 0
    system.store.ensure_bucket()
    with repository.lease("use"):
        name = repository.find(snapshot)
        found = repository.read_snapshot(name)
        if settings_file is not None:
            _write_settings(settings_file, found.header.settings)
        restorer = Restorer(system, repository, name, found)
        condition = restorer.condition()
        if condition == "occupied":
            if not replace:
                raise Invalid(
                    "the system is not empty: restore into a new one, or delete all that this one holds with --replace"
                )
            _check_whole(repository, found)
            if not yes:
                click.confirm(
                    f"Delete all collections of this system, and restore {name} of {found.header.created}?",
                    abort=True,
                    err=True,
                )
            with spinner("deleting what the system holds"):
                restorer.clear()
        models = restore_models(found.models, repository, system.settings.models, without_damaged=without_damaged)
        with object_bar("copying objects") as on_progress:
            restored = restorer.restore(without_damaged=without_damaged, on_progress=on_progress)
    answer = restore_answer(name, restored, models, rebuilt=_rebuild(system, restored))
    restorer.finish()
    if as_json:
        print_json(answer)
    else:
        print_restore(answer)
    return 1 if answer["damaged"] else 0


def _list(repository: Repository, *, as_json: bool) -> None:
    found: list[SnapshotAnswer] = []
    for name in repository.snapshots():
        try:
            found.append(snapshot_answer(name, repository.read_snapshot(name)))
        except Invalid as error:
            found.append(snapshot_answer(name, None, error=str(error)))
    if as_json:
        print_json(found)
    else:
        print_snapshots(found)


def _check_whole(repository: Repository, snapshot: Snapshot) -> None:
    """Make sure that a snapshot can be restored whole, before anything is deleted for it."""
    with object_bar("reading the backup") as on_progress:
        faults = check_entries(repository, snapshot.entries, on_progress)
    if faults:
        first = next(iter(faults.values()))
        raise Damaged(f"{len(faults)} blobs of the backup are missing or damaged, so nothing was deleted: {first}")


def _rebuild(system: System, restored: Restored) -> dict[str, int]:
    """Rebuild the indexes of the collections; returns their numbers of images."""
    rebuilt = {}
    for name in restored.collections:
        with spinner(f"rebuilding the index of {name}"):
            job = system.run_job("rebuild", name, lambda job, name=name: system.queue.rebuild(collection=name, job=job))  # type: ignore[misc]
        rebuilt[name] = job.counts.affected
    return rebuilt


def _write_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Write settings to a file that its owner alone can read, in the form of the data folder's `settings.env`."""
    lines = []
    for name, value in settings.items():
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"{name}='{escaped}'\n")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(lines)
