"""The Celery application of indexer and tender: ``celery -A services.indexer.app worker -Q index``, or ``-Q tend``.

The tender is a worker of its own for what takes minutes, so that new segments and deletions need not wait behind it.
"""

import functools
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from celery.exceptions import Reject
from celery.signals import worker_ready

from services.indexer.indexer import Indexer
from shared.errors import Unavailable
from shared.health import heartbeat
from shared.logs import configure
from shared.messaging.task_queue import (
    COMPACT,
    DELETE_IMAGES,
    DROP_COLLECTION,
    INDEX_SEGMENT,
    REBUILD,
    SWITCH,
    TEND_INDEX,
    TUNE,
    Queue,
    Wish,
    make_app,
    per_process,
)
from shared.rpc.serving import ServingClient
from shared.settings import load_settings
from shared.state import BucketStore, Changes, Jobs, Ledger, connect
from shared.state.jobs import Outcome
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)
_settings = load_settings()
_PAUSE_S = 1.0

app = make_app(_settings, name="indexer")
configure(_settings.log_level)


@per_process
def indexer() -> Indexer:
    """Return the indexer of this worker process, on the servers of the settings; nothing is sent yet."""
    index = connect(_settings.index_url.get_secret_value())
    return Indexer(
        store=ObjectStore.from_settings(_settings),
        buckets=BucketStore(index),
        ledger=Ledger(index),
        jobs=Jobs(index),
        changes=Changes(index),
        queue=Queue(app),
        new_seed=lambda: secrets.randbits(53),
        connect_model=lambda model, version: ServingClient(_settings.serving_target, model, version=version),
        exact_below=_settings.exact_below,
    )


@worker_ready.connect
def _start_heartbeat(sender: Any, **_: object) -> None:
    worker, _, _ = sender.hostname.partition("@")
    heartbeat.start(connect(_settings.index_url.get_secret_value()), worker)


def _patient(run: Callable[..., None]) -> Callable[..., None]:
    """Give the message back to the queue while a server is away; report a task that fails, so that its job can end."""

    @functools.wraps(run)
    def wrapper(**message: Any) -> None:
        try:
            try:
                run(**message)
            except Unavailable:
                raise
            except Exception as error:
                _log.exception("%s failed", run.__name__)
                indexer().give_up(error, **message)
        except Unavailable as error:
            _log.warning("%s waits: %s", run.__name__, error)
            time.sleep(_PAUSE_S)
            raise Reject(str(error), requeue=True) from error

    return wrapper


@app.task(name=INDEX_SEGMENT)
@_patient
def index(*, collection: str, segment: str, job: str, batch: int, outcome: dict[str, Any]) -> None:
    """Index a written segment."""
    indexer().index(collection=collection, segment=segment, job=job, batch=batch, outcome=Outcome.from_json(outcome))


@app.task(name=DELETE_IMAGES)
@_patient
def delete(*, job: str, collection: str, ids: list[int]) -> None:
    """Remove images from a collection."""
    indexer().delete(job=job, collection=collection, ids=ids)


@app.task(name=DROP_COLLECTION)
@_patient
def drop(*, job: str, collection: str) -> None:
    """Remove a collection."""
    indexer().drop(job=job, collection=collection)


@app.task(name=TEND_INDEX)
@_patient
def tend(*, collection: str, job: str | None = None) -> None:
    """Fit a collection's index if the collection has none yet or has outgrown it."""
    indexer().tender.tend(collection=collection, job=job)


@app.task(name=REBUILD)
@_patient
def rebuild(*, collection: str, job: str | None = None, fit: bool = False) -> None:
    """Restore a collection's index from the object store."""
    indexer().tender.rebuild(collection=collection, job=job, fit=fit)


@app.task(name=TUNE)
@_patient
def tune(*, collection: str, job: str, wish: dict[str, Any], apply: bool) -> None:
    """Tune a collection's index to a wish."""
    indexer().tender.tune(collection=collection, job=job, wish=Wish(**wish), apply=apply)


@app.task(name=COMPACT)
@_patient
def compact(*, collection: str, job: str | None = None) -> None:
    """Merge a collection's segments."""
    indexer().compactor.compact(collection=collection, job=job)


@app.task(name=SWITCH)
@_patient
def switch(*, collection: str, job: str, model: str, version: int | None = None) -> None:
    """Take a turn at changing a collection to another model."""
    indexer().switcher.switch(collection=collection, job=job, model=model, version=version)
