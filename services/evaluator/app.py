"""The evaluator's Celery application: ``celery -A services.evaluator.app worker -Q evaluate``."""

import functools
import importlib.metadata
import logging
import os
import threading
import time

from celery.exceptions import Reject
from celery.signals import worker_process_init, worker_ready

from services.evaluator.copies import CopyFinder
from services.evaluator.evaluator import Evaluator, failure
from services.evaluator.queries import QuerySource
from services.evaluator.scratch import Scratch
from shared.errors import Unavailable
from shared.health import heartbeat
from shared.images import Limits
from shared.logs import configure
from shared.messaging.celery_app import make_app
from shared.messaging.messages import EvaluationRequest, EvaluationRequestJson
from shared.messaging.task_queue import EVALUATE_COLLECTION
from shared.rpc.query import QueryClient
from shared.rpc.serving import ServingClient
from shared.settings import Settings, load_settings
from shared.state import BucketStore, Client, Jobs, State, connect
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)
_settings = load_settings()
_PAUSE_S = 1.0
_NICE = 10  # searches and ingestion go first
_DEADLINE_S = 120.0  # of a batch of queries

app = make_app(_settings, name="evaluator")
configure(_settings.log_level)


def make_evaluator(settings: Settings) -> Evaluator:
    """Return an evaluator on the servers of the settings; nothing is sent yet."""
    index = connect(settings.index_url.get_secret_value())
    store, state = ObjectStore.from_settings(settings), State.of(index)
    buckets = BucketStore(index, limit=settings.bucket_limit)
    query = QueryClient(settings.query_target, deadline_s=_DEADLINE_S)
    limits = Limits(max_bytes=settings.max_file_bytes, max_pixels=settings.max_pixels)
    return Evaluator(
        store=store,
        buckets=buckets,
        state=state,
        jobs=Jobs(index),
        scratch=Scratch(index, buckets, state),
        query=query,
        source=QuerySource(
            store=store,
            query=query,
            connect_model=lambda model, version: ServingClient(settings.serving_target, model, version=version),
            limits=limits,
        ),
        copies=CopyFinder(store=store, query=query, limits=limits),
        program=importlib.metadata.version("artseek"),
    )


@functools.cache
def _evaluator() -> Evaluator:
    """Return the evaluator of this worker process, made at its first task, since connections do not survive a fork.

    It is not made when the process starts: Celery logs an error there and goes on, and nobody would hear of it.
    """
    return make_evaluator(_settings)


@worker_process_init.connect
def _start_process(**_: object) -> None:
    os.nice(_NICE)


@worker_ready.connect
def _start_worker(**_: object) -> None:
    index = connect(_settings.index_url.get_secret_value())
    heartbeat.start(index, "evaluator")
    threading.Thread(target=_sweep, args=(index,), name="sweep", daemon=True).start()


def _sweep(index: Client) -> None:
    try:
        Scratch(index, BucketStore(index), State.of(index)).sweep()
    except Unavailable as error:
        _log.warning("what a killed evaluation left is removed at the next start: %s", error)


@app.task(name=EVALUATE_COLLECTION)
def evaluate(*, job: str, collection: str, trial: EvaluationRequestJson) -> None:
    """Judge a collection; while a server is away, the message goes back to the queue."""
    try:
        try:
            _evaluator().evaluate(job=job, collection=collection, trial=EvaluationRequest.from_json(trial))
        except Unavailable:
            raise
        except Exception as error:
            _log.exception("the evaluation %s of %s failed", job, collection)
            _give_up(error, job=job, collection=collection, trial=trial)
    except Unavailable as error:
        _log.warning("the evaluation %s waits: %s", job, error)
        time.sleep(_PAUSE_S)
        raise Reject(str(error), requeue=True) from error


def _give_up(error: Exception, *, job: str, collection: str, trial: EvaluationRequestJson) -> None:
    """Report that an evaluation failed, whatever else fails: a job without an end is waited for until it expires."""
    try:
        _evaluator().give_up(error, job=job, collection=collection, trial=EvaluationRequest.from_json(trial))
    except Unavailable:
        raise
    except Exception:
        _log.exception("what the evaluation %s of %s has left cannot be removed", job, collection)
        jobs = Jobs(connect(_settings.index_url.get_secret_value()))
        jobs.report(job, 0, failure(error, collection))
