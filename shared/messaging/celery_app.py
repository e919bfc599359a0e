"""The Celery application that every worker, and every program that sends tasks, is made from."""

from typing import Any

from celery import Celery

from shared.messaging import transport
from shared.messaging.deliveries import LeasedTask
from shared.messaging.task_queue import (
    EMBED,
    EMBED_BATCH,
    EVALUATE,
    EVALUATE_COLLECTION,
    FIND_DUPLICATES,
    INDEX,
    MAINTENANCE,
)
from shared.settings import Settings

_RENEWALS = 5  # in the time after which a worker that is silent loses its messages
_RENEWED_S = 5.0  # at the latest

transport.install()


def make_app(settings: Settings, *, name: str) -> Celery:
    """Return the Celery application of a service.

    A message is acknowledged when its task is done, so a worker that dies gives it back: at once where only the child
    process died, after `visibility_timeout` where all of it did. A worker that lives keeps it for as long as it takes.
    """
    app: Celery[Any] = Celery(name, broker=settings.broker_url.get_secret_value(), task_cls=LeasedTask)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=False,
        task_default_queue=EMBED,
        task_create_missing_queues=True,
        task_routes={
            EMBED_BATCH: {"queue": EMBED},
            "indexer.*": {"queue": INDEX},
            "maintenance.*": {"queue": MAINTENANCE},
            EVALUATE_COLLECTION: {"queue": EVALUATE},
            FIND_DUPLICATES: {"queue": EVALUATE},
        },
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # "Not now" (a full disk, too few replicas, a replica after a failover) is what kombu calls a channel error:
        # without this, the worker's main process ends at it.
        broker_channel_error_retry=True,
        broker_heartbeat=0,
        broker_transport_options={
            "visibility_timeout": settings.visibility_timeout,
            "unacked_restore_interval": min(_RENEWED_S, settings.visibility_timeout / _RENEWALS),
            "unacked_mutex_expire": 10,
            "socket_timeout": 10.0,
            "socket_connect_timeout": 5.0,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        task_publish_retry_policy={"max_retries": 5, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1.0},
    )
    return app
