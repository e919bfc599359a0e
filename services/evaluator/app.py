"""The evaluator's Celery application: ``celery -A services.evaluator.app worker -Q evaluate``."""

import functools
import importlib.metadata
import logging
import os
import threading

from celery.signals import worker_process_init, worker_ready

from services.evaluator.duplicate_pairs import PairComparer
from services.evaluator.duplicate_search import DuplicateSearch
from services.evaluator.evaluator import Evaluator, failure
from services.evaluator.scratch import Scratch
from shared.errors import Unavailable
from shared.health import heartbeat
from shared.images.decoder_pool import DecoderPool
from shared.index.proofs import Proofs
from shared.logs import configure
from shared.messaging.celery_app import make_app
from shared.messaging.failed_message import FailedMessage
from shared.messaging.message_fields import read_fields
from shared.messaging.messages import EvaluationRequest, EvaluationRequestJson
from shared.messaging.task_queue import EVALUATE_COLLECTION, FIND_DUPLICATES
from shared.messaging.worker import (
    WorkerClients,
    connect_worker,
    end_jobs_of_unknown_tasks,
    per_process,
    require_own_system,
    task,
)
from shared.rpc.query.connecting import connect_query
from shared.settings import Settings, load_settings
from shared.state import Client, State, connect

_log = logging.getLogger(__name__)
_settings = load_settings()
_NICE = 10  # searches and ingestion go first
_DEADLINE_S = 120.0  # of a batch of queries

app = make_app(_settings, name="evaluator")
configure(_settings.log_level)
require_own_system(_settings)
end_jobs_of_unknown_tasks(_settings)

_clients = per_process(lambda: connect_worker(_settings, app))


def make_evaluator(settings: Settings, clients: WorkerClients) -> Evaluator:
    """Return an evaluator on the servers of the settings; nothing is sent yet."""
    return Evaluator(
        clients,
        query=connect_query(settings, deadline_s=_DEADLINE_S),
        scratch=Scratch(connect(settings.index_url.get_secret_value()), clients.state),
        decoder=DecoderPool.from_settings(settings),
        program=importlib.metadata.version("artseek"),
    )


def make_duplicate_search(settings: Settings, clients: WorkerClients) -> DuplicateSearch:
    """Return what searches for duplicates on the servers of the settings; nothing is sent yet."""
    query = connect_query(settings, deadline_s=_DEADLINE_S)
    proofs, decoder = Proofs.from_settings(settings, clients.store), DecoderPool.from_settings(settings)
    comparer = PairComparer(clients.store, query, proofs, decoder)
    return DuplicateSearch(clients, query=query, comparer=comparer, program=importlib.metadata.version("artseek"))


@functools.cache  # while it cannot be made, jobs end with the reason: somebody waits for them
def _evaluator() -> Evaluator:
    """Return the evaluator of this worker process."""
    return make_evaluator(_settings, _clients())


@functools.cache
def _duplicate_search() -> DuplicateSearch:
    """Return what searches for duplicates in this worker process."""
    return make_duplicate_search(_settings, _clients())


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
        Scratch(index, State.of(index)).sweep()
    except Unavailable as error:
        _log.warning("what a killed evaluation left is removed at the next start: %s", error)


def _give_up(failed: FailedMessage) -> None:
    """Report that an evaluation failed, whatever else fails: a job without an end is waited for until it expires."""
    collection = str(failed.fields.get("collection"))
    try:
        values = read_fields(_evaluate, failed.fields, place="the message")
        request = EvaluationRequest.from_json(values["request"])
        _evaluator().give_up(failed.error, job=values["job"], collection=values["collection"], request=request)
    except Unavailable:
        raise
    except Exception:
        _log.exception("what the evaluation %s of %s has left cannot be removed", failed.job, collection)
        failed.report(_clients().state.jobs, failure(failed.error, collection))


def _evaluate(*, job: str, collection: str, request: EvaluationRequestJson) -> None:
    """Evaluate a collection."""
    _evaluator().evaluate(job=job, collection=collection, request=EvaluationRequest.from_json(request))


evaluate = task(app, EVALUATE_COLLECTION, give_up=_give_up)(_evaluate)


def _give_up_duplicates(failed: FailedMessage) -> None:
    """Report that a search for duplicates failed, whatever else fails."""
    collection = str(failed.fields.get("collection"))
    try:
        values = read_fields(_find_duplicates, failed.fields, place="the message")
        _duplicate_search().give_up(failed.error, job=values["job"], collection=values["collection"])
    except Unavailable:
        raise
    except Exception:
        _log.exception("what the search for duplicates %s of %s has left cannot be removed", failed.job, collection)
        failed.report(_clients().state.jobs, failure(failed.error, collection))


def _find_duplicates(*, job: str, collection: str) -> None:
    """Search a collection for images that show the same."""
    _duplicate_search().search(job=job, collection=collection)


find_duplicates = task(app, FIND_DUPLICATES, give_up=_give_up_duplicates)(_find_duplicates)
