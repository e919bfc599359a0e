"""What the Celery workers have in common: their clients, and how a task ends when a server is away or it fails."""

import functools
import inspect
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from celery import Celery
from celery.exceptions import Reject
from celery.signals import task_unknown, worker_init

from shared.back_off import BackOff
from shared.clients import Clients, connect_state, model_connector
from shared.errors import Invalid, Renamed, TooNew, Unavailable
from shared.messaging.failed_message import FailedMessage
from shared.messaging.message_fields import read_fields
from shared.messaging.task_queue import TaskQueue
from shared.settings import Settings
from shared.storage.object_store import ObjectStore
from shared.system_identity import wait_for_own_system
from shared.waits import WaitLog

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0  # before a message goes back to the queue

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class WorkerClients(Clients):
    """The clients of a worker: those of every service, and the task queues."""

    queue: TaskQueue


def connect_worker(settings: Settings, app: Celery, *, store_connections: int = 16) -> WorkerClients:
    """Return the clients of a worker, or of another program that sends tasks; nothing is sent yet."""
    state = connect_state(settings)
    return WorkerClients(
        store=ObjectStore.from_settings(settings, connections=store_connections),
        state=state,
        connect_model=model_connector(settings),
        queue=TaskQueue(app, state.jobs.sent),
    )


def require_own_system(settings: Settings) -> None:
    """Have the worker, before it takes its first message, end if its Redis belongs to another system."""

    def check(**_: object) -> None:
        wait_for_own_system(settings, settings.broker_url)

    worker_init.connect(check, weak=False)


def end_jobs_of_unknown_tasks(settings: Settings) -> None:
    """Have the worker end the jobs of messages for tasks that it does not know: a newer version sent them."""

    def end(*, message: Any, name: str, **_: object) -> None:
        try:
            _, fields, _ = message.payload
            error = TooNew(f"the task {name!r} was sent by a newer Artseek: upgrade this worker")
            failed = FailedMessage(dict(fields), error, batched="batch" in fields)
            failed.report_failure(connect_state(settings).jobs, worker="the worker")
        except Exception:
            _log.exception("the job of a message for the unknown task %r cannot be ended", name)

    task_unknown.connect(end, weak=False)


def per_process(make: Callable[[], Made]) -> Callable[[], Made]:
    """Return a function that gives each worker process its own object, made at the first task of the process.

    No connection survives a fork. The object is not made when the process starts: Celery logs an error there and goes
    on without, and every task then fails and is lost. While the object cannot be made, `Unavailable` makes the
    messages wait.
    """

    @functools.cache
    @functools.wraps(make)
    def made() -> Made:
        try:
            return make()
        except Exception as error:
            raise Unavailable(f"the worker cannot work: {type(error).__name__}: {error}") from error

    return made


def task(
    app: Celery, name: str, *, give_up: Callable[[FailedMessage], None]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a task that takes the fields of its message as keyword arguments, of the types of its annotations.

    While a server is away, the message goes back to the queue after a pause, which grows with each message of this
    process that has to go back, until one gets through. A message that is not understood, or whose task fails for
    another reason, is handed to `give_up`, which ends its job.
    """
    wait_log = WaitLog(_log, name)
    back_off = BackOff(first_s=_FIRST_PAUSE_S, cap_s=_LONGEST_PAUSE_S)

    def register(run: Callable[..., None]) -> Callable[..., None]:
        batched = "batch" in inspect.signature(run).parameters

        @functools.wraps(run)
        def wrapper(*values: Any, **message: Any) -> None:
            try:
                try:
                    if values:
                        raise Invalid(f"the message of {name} has values without names: {values!r:.80}")
                    run(**read_fields(run, message, place=f"the message of {name}"))
                    back_off.reset()
                except Unavailable:
                    raise
                except Renamed as error:  # meanwhile: the next attempt finds the collection by its new name
                    raise Unavailable(str(error)) from error
                except Exception as error:
                    _log.exception("%s failed", name)
                    give_up(FailedMessage(message, error, batched=batched))
                wait_log.goes_on()
            except Unavailable as error:
                wait_log.waits(error)
                time.sleep(back_off.next_s())
                raise Reject(str(error), requeue=True) from error

        registered: Callable[..., None] = app.task(name=name)(wrapper)
        return registered

    return register
