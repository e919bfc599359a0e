"""What the Celery workers have in common: their clients, and how a task ends when a server is away or it fails."""

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from celery import Celery
from celery.exceptions import Reject

from shared.clients import Clients, connect_state, model_connector
from shared.errors import Unavailable
from shared.messaging.task_queue import TaskQueue
from shared.settings import Settings
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)

_PAUSE_S = 1.0  # before a message goes back to the queue

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class WorkerClients(Clients):
    """The clients of a worker: those of every service, and the task queues."""

    queue: TaskQueue


def connect_worker(settings: Settings, app: Celery, *, store_connections: int = 16) -> WorkerClients:
    """Return the clients of a worker, or of another program that sends tasks; nothing is sent yet."""
    return WorkerClients(
        store=ObjectStore.from_settings(settings, connections=store_connections),
        state=connect_state(settings),
        connect_model=model_connector(settings),
        queue=TaskQueue(app),
    )


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
    app: Celery, name: str, *, give_up: Callable[..., None] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a task that takes its message as keyword arguments.

    While a server is away, the message goes back to the queue after a pause. A task that fails for another reason is
    handed to `give_up` with the error and its message, so that its job can end; without `give_up`, the error is raised.
    """

    def register(run: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(run)
        def wrapper(**message: Any) -> None:
            try:
                try:
                    run(**message)
                except Unavailable:
                    raise
                except Exception as error:
                    if give_up is None:
                        raise
                    _log.exception("%s failed", name)
                    give_up(error, **message)
            except Unavailable as error:
                _log.warning("%s waits: %s", name, error)
                time.sleep(_PAUSE_S)
                raise Reject(str(error), requeue=True) from error

        registered: Callable[..., None] = app.task(name=name)(wrapper)
        return registered

    return register
