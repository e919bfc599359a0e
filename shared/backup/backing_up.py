"""Makes a backup of a running system."""

import importlib.metadata
import logging
import time
from dataclasses import dataclass

from pydantic import SecretStr

from shared.backup.contents import Contents, count_linked, count_originals
from shared.backup.copying import ObjectCopier, OnProgress
from shared.backup.leases import Lease, LeaseLost
from shared.backup.model_files import copy_models
from shared.backup.repository import Repository
from shared.backup.snapshot import Entry, Header, Snapshot, total_bytes
from shared.clients import Clients
from shared.errors import Invalid
from shared.settings import Settings, environment_name
from shared.storage import layout
from shared.timestamps import rfc3339

_log = logging.getLogger(__name__)

_URLS = ("index_url", "broker_url")  # they hold a password


@dataclass(frozen=True)
class BackupResult:
    """A backup that was made: its id, what it holds, and what of it was new."""

    snapshot: str
    header: Header
    objects: int
    bytes: int
    models: int
    new_blobs: int
    new_bytes: int


def back_up(
    clients: Clients,
    repository: Repository,
    settings: Settings,
    *,
    with_secrets: bool = False,
    on_progress: OnProgress | None = None,
) -> BackupResult:
    """Copy what the repository lacks of the system, and write a snapshot of it.

    A run that dies leaves blobs that no snapshot names; the next run uses them.

    Args:
        clients: The clients of the system.
        repository: Where the backup lies.
        settings: Of the system; those of them that are not left at their defaults are in the backup.
        with_secrets: Whether passwords and keys are among them.
        on_progress: Takes how many objects are done, and how many there are.

    Raises:
        Invalid: A restore of the system has not ended.
        Unavailable: A server does not answer.
        LeaseLost: The process was held up for so long that the repository may have been cleaned.
    """
    if clients.store.exists(layout.RESTORING):
        raise Invalid("a restore has not ended: run `artseek restore` again first")
    with repository.lease("use") as lease:
        copier = ObjectCopier(clients.store, repository, _earlier(repository))
        entries = Contents(clients, copier, on_progress).copy()
        models = copy_models(settings.models, copier)
        snapshot = Snapshot(
            Header(
                created=rfc3339(time.time()),
                artseek=importlib.metadata.version("artseek"),
                source=f"{settings.s3_endpoint}/{settings.s3_bucket}",
                settings=_set_settings(settings, with_secrets=with_secrets),
                with_secrets=with_secrets,
                damaged=tuple(sorted(copier.damaged)),
                images=count_originals(entries),
                linked=count_linked(entries),
                collections=_collections(entries),
            ),
            tuple(entries[key] for key in sorted(entries)),
            tuple(models),
        )
        name = _write(repository, snapshot, lease)
    return BackupResult(
        snapshot=name,
        header=snapshot.header,
        objects=len(snapshot.objects),
        bytes=total_bytes(snapshot.entries),
        models=len({entry.key.rsplit("/", entry.key.count("/") - 1)[0] for entry in models}),
        new_blobs=copier.new_blobs,
        new_bytes=copier.new_bytes,
    )


def _write(repository: Repository, snapshot: Snapshot, lease: Lease) -> str:
    """Write a snapshot and return its name, unless the repository may have been cleaned meanwhile."""
    lease.ensure()
    name = repository.write_snapshot(snapshot)
    try:
        lease.ensure()
    except LeaseLost:
        repository.delete_snapshots([name])
        raise
    return name


def _earlier(repository: Repository) -> tuple[Entry, ...]:
    """Return the objects of the latest backup that can be read: what has not changed since is not read again."""
    for name in reversed(repository.snapshots()):
        try:
            return repository.read_snapshot(name).objects
        except Invalid as error:
            _log.error("an earlier backup is passed over: %s", error)
    return ()


def _set_settings(settings: Settings, *, with_secrets: bool) -> dict[str, str]:
    """Return the settings that were set, by their environment names."""
    found = {}
    for field in sorted(settings.model_fields_set):
        value = getattr(settings, field)
        if isinstance(value, SecretStr) or field in _URLS:
            if not with_secrets:
                continue
            value = value.get_secret_value()
        if value is not None:
            found[environment_name(field)] = str(value)
    return found


def _collections(entries: dict[str, Entry]) -> tuple[str, ...]:
    """Return the names of the collections whose manifests are among objects."""
    keys = sorted(key for key in entries if key.startswith(layout.COLLECTIONS))
    names = (key.removeprefix(layout.COLLECTIONS).removesuffix(".json") for key in keys)
    return tuple(name for name in names if not layout.is_regions(name))
