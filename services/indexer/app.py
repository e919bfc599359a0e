"""The indexer's Celery application: ``celery -A services.indexer.app worker -Q index``."""

import functools
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from celery.exceptions import Reject
from celery.signals import worker_process_init, worker_ready

from services.indexer.indexer import Indexer
from shared import heartbeat
from shared.errors import NotFound, Unavailable
from shared.index import BucketStore, Changes, Jobs, Ledger, connect
from shared.index.jobs import Outcome
from shared.logs import configure
from shared.queue import DELETE_IMAGES, DROP_COLLECTION, INDEX_SEGMENT, REBUILD, TEND_INDEX, Queue, make_app
from shared.settings import load_settings
from shared.store import ObjectStore

_log = logging.getLogger(__name__)
_settings = load_settings()
_PAUSE_S = 1.0

app = make_app(_settings, name="indexer")
configure(_settings.log_level)


class _Process:
    """What one worker process keeps between tasks; made after the fork, since connections do not survive one."""

    indexer: Indexer


@worker_process_init.connect
def _start_process(**_: object) -> None:
    index = connect(_settings.index_url.get_secret_value())
    _Process.indexer = Indexer(
        store=ObjectStore.from_settings(_settings),
        buckets=BucketStore(index),
        ledger=Ledger(index),
        jobs=Jobs(index),
        changes=Changes(index),
        queue=Queue(app),
        new_seed=lambda: secrets.randbits(53),
    )


@worker_ready.connect
def _start_heartbeat(**_: object) -> None:
    heartbeat.start(connect(_settings.index_url.get_secret_value()), "indexer")


def _patient(run: Callable[..., None]) -> Callable[..., None]:
    """Give the message back to the queue while a server is away."""

    @functools.wraps(run)
    def wrapper(**message: Any) -> None:
        try:
            run(**message)
        except Unavailable as error:
            _log.warning("%s waits: %s", run.__name__, error)
            time.sleep(_PAUSE_S)
            raise Reject(str(error), requeue=True) from error
        except NotFound as error:
            _log.warning("%s has nothing to do: %s", run.__name__, error)

    return wrapper


@app.task(name=INDEX_SEGMENT)
@_patient
def index(*, collection: str, segment: str, job: str, batch: int, outcome: dict[str, Any]) -> None:
    """Index a written segment."""
    _Process.indexer.index(
        collection=collection, segment=segment, job=job, batch=batch, outcome=Outcome.from_json(outcome)
    )


@app.task(name=DELETE_IMAGES)
@_patient
def delete(*, job: str, collection: str, ids: list[int]) -> None:
    """Remove images from a collection."""
    _Process.indexer.delete(job=job, collection=collection, ids=ids)


@app.task(name=DROP_COLLECTION)
@_patient
def drop(*, job: str, collection: str) -> None:
    """Remove a collection."""
    _Process.indexer.drop(job=job, collection=collection)


@app.task(name=TEND_INDEX)
@_patient
def tend(*, collection: str, job: str | None = None) -> None:
    """Fit a collection's index if the collection has none yet or has outgrown it."""
    _Process.indexer.tend(collection=collection, job=job)


@app.task(name=REBUILD)
@_patient
def rebuild(*, collection: str, job: str | None = None, fit: bool = False) -> None:
    """Restore a collection's index from the object store."""
    _Process.indexer.rebuild(collection=collection, job=job, fit=fit)
