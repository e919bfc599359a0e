"""The embedder's Celery application: ``celery -A services.embedder.app worker -Q embed``."""

import importlib.metadata
from typing import Any

from celery.signals import worker_ready

from services.embedder.embedder import Embedder, Options
from shared.health import heartbeat
from shared.images import Limits
from shared.logs import configure
from shared.messaging.celery_app import make_app
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import EMBED_BATCH
from shared.messaging.worker import connect_worker, per_process, task
from shared.settings import load_settings
from shared.state import connect
from shared.state.jobs import Outcome

_settings = load_settings()

app = make_app(_settings, name="embedder")
configure(_settings.log_level)


@per_process
def embedder() -> Embedder:
    """Return the embedder of this worker process."""
    return Embedder(
        connect_worker(_settings, app),
        Options(
            model=(_settings.model, _settings.model_version),
            limits=Limits(max_bytes=_settings.max_file_bytes, max_pixels=_settings.max_pixels),
            program=importlib.metadata.version("artseek"),
            vector_type=_settings.vector_type,
        ),
    )


@worker_ready.connect
def _start_heartbeat(**_: object) -> None:
    heartbeat.start(connect(_settings.index_url.get_secret_value()), "embedder")


@task(app, EMBED_BATCH)
def embed(
    *,
    job: str,
    batch: int,
    collection: str,
    items: list[dict[str, Any]],
    set_name: str | None = None,
    before: dict[str, Any] | None = None,
) -> None:
    """Embed one batch."""
    embedder().embed(
        job=job,
        batch=batch,
        collection=collection,
        items=[BatchImage(**item) for item in items],
        set_name=set_name,
        before=None if before is None else Outcome.from_json(before),
    )
