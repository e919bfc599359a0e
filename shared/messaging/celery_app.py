"""The Celery application that every worker, and every program that sends tasks, is made from."""

from celery import Celery

from shared.messaging.task_queue import EMBED, EMBED_BATCH, EVALUATE, EVALUATE_COLLECTION, INDEX, MAINTENANCE
from shared.settings import Settings

# No embed task takes as long. One that hangs in a decoder is killed, and counts as having killed its worker.
_EMBED_LIMIT_S = 120


def make_app(settings: Settings, *, name: str) -> Celery:
    """Return the Celery application of a service.

    A message is acknowledged when its task is done, so a worker that dies gives it back: at once where only the child
    process died, after `visibility_timeout` where all of it did.
    """
    app = Celery(name, broker=settings.broker_url.get_secret_value())
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
        },
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=0,
        broker_transport_options={
            "visibility_timeout": settings.visibility_timeout,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 10,
            "socket_timeout": 10.0,
            "socket_connect_timeout": 5.0,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        task_annotations={EMBED_BATCH: {"time_limit": _EMBED_LIMIT_S}},
        task_publish_retry_policy={"max_retries": 5, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1.0},
    )
    return app
