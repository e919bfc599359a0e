"""The maintenance worker's Celery application: ``celery -A services.maintenance.app worker -Q maintenance``."""

from celery.signals import worker_process_init, worker_ready

from services.maintenance.audit_tidying import AuditDuty
from services.maintenance.daily_verification import DailyVerification
from services.maintenance.job_sweeper import JobSweeper
from services.maintenance.kept_query_tidying import KeptQueryDuty
from services.maintenance.maintenance import Maintenance
from services.maintenance.mapping import MapDuty
from services.maintenance.orphan_collecting import OrphanDuty
from services.maintenance.record_tidying import RecordDuty
from services.maintenance.region_making import RegionDuty
from services.maintenance.renaming import RenameDuty
from services.maintenance.schedule import Duty, Schedule, SuspectRebuild, VerificationDuty
from services.maintenance.trash_cleaning import TrashDuty
from shared.background_priority import leave_processors_to_others
from shared.health import heartbeat
from shared.logs import configure
from shared.messaging.celery_app import make_app
from shared.messaging.failed_message import FailedMessage
from shared.messaging.messages import BatchImage, TuningRequest
from shared.messaging.task_queue import (
    CHANGE_MODEL,
    CLEAN_TRASH,
    COLLECT_ORPHANS,
    COMPACT,
    DROP_COLLECTION,
    MAINTAIN,
    MAKE_REGIONS,
    MAP,
    PURGE,
    REBUILD,
    RELABEL_IMAGES,
    RENAME_COLLECTION,
    SWITCH_REGIONS,
    TIDY_RECORDS,
    TUNE,
    VERIFY,
)
from shared.messaging.worker import connect_worker, end_jobs_of_unknown_tasks, per_process, require_own_system, task
from shared.settings import load_settings
from shared.state import connect

_settings = load_settings()

app = make_app(_settings, name="maintenance")
configure(_settings.log_level)
require_own_system(_settings)
end_jobs_of_unknown_tasks(_settings)

_clients = per_process(lambda: connect_worker(_settings, app))


@per_process
def maintenance() -> Maintenance:
    """Return the maintenance worker of this process."""
    return Maintenance.of(
        _clients(),
        exact_below=_settings.exact_below,
        trash_days=_settings.trash_days,
        orphan_hours=_settings.orphan_hours,
    )


@worker_process_init.connect
def _give_way(**_: object) -> None:
    leave_processors_to_others()  # to tune or to merge takes minutes; a search waits for none of it


@worker_ready.connect
def _start_heartbeat(**_: object) -> None:
    heartbeat.start(connect(_settings.index_url.get_secret_value()), "maintenance")


@worker_ready.connect
def _start_schedule(**_: object) -> None:
    clients = connect_worker(_settings, app)
    duties: list[Duty] = [
        SuspectRebuild(clients.state, clients.queue),
        JobSweeper(clients),
        RenameDuty(clients),
        RegionDuty(clients),
        TrashDuty(clients.queue),
        OrphanDuty(clients.queue),
        VerificationDuty(clients.queue),
        RecordDuty(clients, clients.queue),
        MapDuty(clients),
        AuditDuty(clients.store, days=_settings.audit_days),
        KeptQueryDuty(clients.store, days=_settings.kept_query_days),
    ]
    Schedule(clients.state, duties).start()


def _give_up(failed: FailedMessage) -> None:
    """Report a task that failed for a reason that waiting does not mend."""
    failed.report_failure(_clients().state.jobs, worker="the maintenance worker")


def _current_name(collection: str) -> str:
    """Return what a collection is called now: it may have been renamed since it was asked to be worked on."""
    return _clients().catalog.current_name(collection)


@task(app, MAINTAIN, give_up=_give_up)
def maintain(*, collection: str, job: str | None = None) -> None:
    """Tune a collection's index if that is due."""
    maintenance().tuner.maintain(collection=collection, job=job)


@task(app, TUNE, give_up=_give_up)
def tune(*, collection: str, job: str, request: TuningRequest, apply: bool) -> None:
    """Tune a collection's index as requested."""
    maintenance().tuner.tune(collection=_current_name(collection), job=job, request=request, apply=apply)


@task(app, REBUILD, give_up=_give_up)
def rebuild(*, collection: str, job: str | None = None, fit: bool = False) -> None:
    """Restore a collection's index from the object store."""
    maintenance().rebuilder.rebuild(collection=_current_name(collection), job=job, fit=fit)


@task(app, COMPACT, give_up=_give_up)
def compact(*, collection: str, job: str | None = None) -> None:
    """Merge a collection's segments."""
    maintenance().compactor.compact(collection=_current_name(collection), job=job)


@task(app, MAP, give_up=_give_up)
def make_map(*, collection: str, job: str, anew: bool = False) -> None:
    """Make the map of a collection, or bring it up to its images."""
    maintenance().mapper.map(collection=_current_name(collection), job=job, anew=anew)


@task(app, CHANGE_MODEL, give_up=_give_up)
def change_model(*, collection: str, job: str, model: str, version: int | None = None) -> None:
    """Take a turn at changing a collection to another model."""
    maintenance().model_changer.change(collection=_current_name(collection), job=job, model=model, version=version)


@task(app, SWITCH_REGIONS, give_up=_give_up)
def switch_regions(*, job: str, collection: str, on: bool) -> None:
    """Switch the index of a collection's regions on or off."""
    maintenance().region_maker.switch(job=job, collection=_current_name(collection), on=on)


@task(app, MAKE_REGIONS, give_up=_give_up)
def make_regions(*, collection: str, job: str | None = None) -> None:
    """Take a turn at embedding the windows that are missing."""
    maintenance().region_maker.make(collection=_current_name(collection), job=job)


@task(app, VERIFY, give_up=_give_up)
def verify() -> None:
    """Verify all but buckets and the contents of originals."""
    DailyVerification(_clients(), _settings).verify()


@task(app, DROP_COLLECTION, give_up=_give_up)
def drop(*, job: str, collection: str) -> None:
    """Remove a collection."""
    maintenance().dropper.drop(job=job, collection=collection)


@task(app, RENAME_COLLECTION, give_up=_give_up)
def rename(*, job: str, collection: str, new: str) -> None:
    """Give a collection another name."""
    maintenance().renamer.rename(job=job, collection=collection, new=new)


@task(app, PURGE, give_up=_give_up)
def purge(*, job: str, collection: str, image_ids: list[int], had: list[int] | None = None) -> None:
    """Remove for good what is left of deleted images."""
    maintenance().purger.purge(job=job, collection=_current_name(collection), image_ids=image_ids, had=had)


@task(app, RELABEL_IMAGES, give_up=_give_up)
def relabel(*, job: str, batch: int, collection: str, items: list[BatchImage], keep: bool) -> None:
    """Give images of a collection new labels."""
    maintenance().relabeller.relabel(job=job, batch=batch, collection=_current_name(collection), items=items, keep=keep)


@task(app, CLEAN_TRASH, give_up=_give_up)
def clean_trash() -> None:
    """Clean the trash of all collections."""
    maintenance().trash_cleaner.clean()


@task(app, TIDY_RECORDS, give_up=_give_up)
def tidy_records() -> None:
    """Merge the changes of records where they are many."""
    maintenance().record_tidier.tidy()


@task(app, COLLECT_ORPHANS, give_up=_give_up)
def collect_orphans() -> None:
    """Delete the originals that nothing holds."""
    maintenance().orphan_collector.collect()
