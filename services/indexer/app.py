"""The indexer's Celery application: ``celery -A services.indexer.app worker -Q index``."""

from typing import Any

from celery.signals import worker_ready

from services.indexer.indexer import Indexer
from shared.health import heartbeat
from shared.logs import configure
from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import DELETE_IMAGES, INDEX_SEGMENT
from shared.messaging.worker import connect_worker, per_process, task
from shared.settings import load_settings
from shared.state import connect
from shared.state.jobs import Outcome

_settings = load_settings()

app = make_app(_settings, name="indexer")
configure(_settings.log_level)


@per_process
def indexer() -> Indexer:
    """Return the indexer of this worker process."""
    return Indexer.of(connect_worker(_settings, app), exact_below=_settings.exact_below)


@worker_ready.connect
def _start_heartbeat(**_: object) -> None:
    heartbeat.start(connect(_settings.index_url.get_secret_value()), "indexer")


def _give_up(error: Exception, **message: Any) -> None:
    indexer().segments.give_up(error, **message)


@task(app, INDEX_SEGMENT, give_up=_give_up)
def index(*, set_name: str, segment: str, job: str, batch: int, outcome: dict[str, Any]) -> None:
    """Index a written segment."""
    indexer().segments.index(
        set_name=set_name, segment=segment, job=job, batch=batch, outcome=Outcome.from_json(outcome)
    )


@task(app, DELETE_IMAGES, give_up=_give_up)
def delete(*, job: str, collection: str, image_ids: list[int]) -> None:
    """Remove images from a collection."""
    indexer().deletion.delete(job=job, collection=collection, image_ids=image_ids)
