"""The indexer's Celery application: ``celery -A services.indexer.app worker -Q index``."""

from celery.signals import worker_ready

from services.indexer.indexer import Indexer
from shared.health import heartbeat
from shared.logs import configure
from shared.messaging.celery_app import make_app
from shared.messaging.failed_message import FailedMessage
from shared.messaging.task_queue import DELETE_IMAGES, INDEX_SEGMENT
from shared.messaging.worker import connect_worker, end_jobs_of_unknown_tasks, per_process, require_own_system, task
from shared.settings import load_settings
from shared.state import Rejection, connect
from shared.state.outcomes import Outcome, OutcomeJson

_settings = load_settings()

app = make_app(_settings, name="indexer")
configure(_settings.log_level)
require_own_system(_settings)
end_jobs_of_unknown_tasks(_settings)


_clients = per_process(lambda: connect_worker(_settings, app))


@per_process
def indexer() -> Indexer:
    """Return the indexer of this worker process."""
    return Indexer.of(_clients(), exact_below=_settings.exact_below)


@worker_ready.connect
def _start_heartbeat(**_: object) -> None:
    heartbeat.start(connect(_settings.index_url.get_secret_value()), "indexer")


def _give_up(failed: FailedMessage) -> None:
    """Report that a task failed, with what is known of its batch."""
    failure = Rejection("", "error", f"the indexer failed: {failed.reason}")
    try:
        known = Outcome.from_json(failed.fields["outcome"])
        lost = sum(known.added.values()) or 1
        outcome = Outcome({}, known.duplicates, known.rejected + (failure,) * lost)
    except (KeyError, TypeError, ValueError, AttributeError):
        outcome = Outcome(rejected=(failure,))
    failed.report(_clients().state.jobs, outcome)


@task(app, INDEX_SEGMENT, give_up=_give_up)
def index(*, set_name: str, segment: str, job: str, batch: int, outcome: OutcomeJson) -> None:
    """Index a written segment."""
    indexer().segments.index(
        set_name=set_name, segment=segment, job=job, batch=batch, outcome=Outcome.from_json(outcome)
    )


@task(app, DELETE_IMAGES, give_up=_give_up)
def delete(
    *,
    job: str,
    collection: str,
    image_ids: list[int],
    purge: bool = False,
    from_trash: bool = False,
    had: list[int] | None = None,
) -> None:
    """Remove images from a collection."""
    indexer().deletion.delete(
        job=job, collection=collection, image_ids=image_ids, purge=purge, from_trash=from_trash, had=had
    )
