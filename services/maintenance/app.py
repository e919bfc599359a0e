"""The maintenance worker's Celery application: ``celery -A services.maintenance.app worker -Q maintenance``."""

from typing import Any

from celery.signals import worker_ready

from services.maintenance.maintenance import Maintenance
from shared.health import heartbeat
from shared.logs import configure
from shared.messaging.celery_app import make_app
from shared.messaging.messages import TuningRequest
from shared.messaging.task_queue import CHANGE_MODEL, COMPACT, DROP_COLLECTION, MAINTAIN, REBUILD, TUNE
from shared.messaging.worker import connect_worker, per_process, task
from shared.settings import load_settings
from shared.state import Rejection, connect
from shared.state.jobs import Outcome

_settings = load_settings()

app = make_app(_settings, name="maintenance")
configure(_settings.log_level)

_clients = per_process(lambda: connect_worker(_settings, app))


@per_process
def maintenance() -> Maintenance:
    """Return the maintenance worker of this process."""
    return Maintenance.of(_clients(), exact_below=_settings.exact_below)


@worker_ready.connect
def _start_heartbeat(**_: object) -> None:
    heartbeat.start(connect(_settings.index_url.get_secret_value()), "maintenance")


def _give_up(error: Exception, *, job: str | None = None, **_: object) -> None:
    """Report a task that failed for a reason that waiting does not mend."""
    if job:
        failure = Rejection("", "error", f"the maintenance worker failed: {error}")
        _clients().state.jobs.report(job, 0, Outcome(rejected=(failure,)))


@task(app, MAINTAIN, give_up=_give_up)
def maintain(*, collection: str, job: str | None = None) -> None:
    """Tune a collection's index if that is due."""
    maintenance().tuner.maintain(collection=collection, job=job)


@task(app, TUNE, give_up=_give_up)
def tune(*, collection: str, job: str, request: dict[str, Any], apply: bool) -> None:
    """Tune a collection's index as requested."""
    maintenance().tuner.tune(collection=collection, job=job, request=TuningRequest(**request), apply=apply)


@task(app, REBUILD, give_up=_give_up)
def rebuild(*, collection: str, job: str | None = None, fit: bool = False) -> None:
    """Restore a collection's index from the object store."""
    maintenance().rebuilder.rebuild(collection=collection, job=job, fit=fit)


@task(app, COMPACT, give_up=_give_up)
def compact(*, collection: str, job: str | None = None) -> None:
    """Merge a collection's segments."""
    maintenance().compactor.compact(collection=collection, job=job)


@task(app, CHANGE_MODEL, give_up=_give_up)
def change_model(*, collection: str, job: str, model: str, version: int | None = None) -> None:
    """Take a turn at changing a collection to another model."""
    maintenance().model_changer.change(collection=collection, job=job, model=model, version=version)


@task(app, DROP_COLLECTION, give_up=_give_up)
def drop(*, job: str, collection: str) -> None:
    """Remove a collection."""
    maintenance().dropper.drop(job=job, collection=collection)
