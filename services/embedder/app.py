"""The embedder's Celery application: ``celery -A services.embedder.app worker -Q embed``."""

import importlib.metadata
import logging
import time
from typing import Any

from celery.exceptions import Reject
from celery.signals import worker_ready

from services.embedder.embedder import Embedder, Options
from shared.errors import Unavailable
from shared.health import heartbeat
from shared.images import Limits
from shared.logs import configure
from shared.messaging.task_queue import EMBED_BATCH, Item, Queue, make_app, per_process
from shared.rpc.serving import ServingClient
from shared.settings import load_settings
from shared.state import Changes, Jobs, Ledger, connect
from shared.state.jobs import Outcome
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)
_settings = load_settings()
_PAUSE_S = 1.0

app = make_app(_settings, name="embedder")
configure(_settings.log_level)


@per_process
def embedder() -> Embedder:
    """Return the embedder of this worker process, on the servers of the settings; nothing is sent yet."""
    index = connect(_settings.index_url.get_secret_value())
    return Embedder(
        store=ObjectStore.from_settings(_settings),
        ledger=Ledger(index),
        jobs=Jobs(index),
        changes=Changes(index),
        queue=Queue(app),
        connect_model=lambda model, version: ServingClient(_settings.serving_target, model, version=version),
        options=Options(
            model=(_settings.model, _settings.model_version),
            limits=Limits(max_bytes=_settings.max_file_bytes, max_pixels=_settings.max_pixels),
            program=importlib.metadata.version("artseek"),
            vector_type=_settings.vector_type,
        ),
    )


@worker_ready.connect
def _start_heartbeat(**_: object) -> None:
    heartbeat.start(connect(_settings.index_url.get_secret_value()), "embedder")


@app.task(name=EMBED_BATCH, bind=True)
def embed(
    self: Any,  # noqa: ARG001
    *,
    job: str,
    batch: int,
    collection: str,
    items: list[dict[str, Any]],
    space: str | None = None,
    before: dict[str, Any] | None = None,
) -> None:
    """Embed one batch; while a server is away, the message goes back to the queue."""
    try:
        embedder().embed(
            job=job,
            batch=batch,
            collection=collection,
            items=[Item(**item) for item in items],
            space=space,
            before=None if before is None else Outcome.from_json(before),
        )
    except Unavailable as error:
        _log.warning("batch %s-%06d waits: %s", job, batch, error)
        time.sleep(_PAUSE_S)
        raise Reject(str(error), requeue=True) from error
