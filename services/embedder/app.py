"""The embedder's Celery application: ``celery -A services.embedder.app worker -Q embed``."""

import importlib.metadata

from celery.signals import worker_ready

from services.embedder.embedder import Embedder, Options
from shared.health import heartbeat
from shared.images.decoder_pool import DecoderPool
from shared.logs import configure
from shared.messaging.celery_app import make_app
from shared.messaging.deliveries import Delivery
from shared.messaging.failed_message import FailedMessage
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import EMBED_BATCH
from shared.messaging.worker import connect_worker, end_jobs_of_unknown_tasks, per_process, require_own_system, task
from shared.parallelism import Parallelism
from shared.settings import load_settings
from shared.state import Rejection, connect
from shared.state.outcomes import Outcome, OutcomeJson
from shared.usable_cores import usable_cores

_settings = load_settings()

app = make_app(_settings, name="embedder")
app.conf.worker_concurrency = _settings.embed_processes or Parallelism.of_cores(usable_cores()).embed_processes
configure(_settings.log_level)
require_own_system(_settings)
end_jobs_of_unknown_tasks(_settings)


_clients = per_process(lambda: connect_worker(_settings, app))


@per_process
def embedder() -> Embedder:
    """Return the embedder of this worker process."""
    return Embedder(
        _clients(),
        Options(
            model=(_settings.model, _settings.model_version),
            decoder=DecoderPool.from_settings(_settings),
            program=importlib.metadata.version("artseek"),
            vector_type=_settings.vector_type,
        ),
    )


@worker_ready.connect
def _start_heartbeat(**_: object) -> None:
    heartbeat.start(connect(_settings.index_url.get_secret_value()), "embedder")


def _give_up(failed: FailedMessage) -> None:
    """Report that none of the images of a batch was added."""
    items = failed.fields.get("items")
    names = [item.get("name") if isinstance(item, dict) else None for item in items] if isinstance(items, list) else []
    reason = f"the embedder failed: {failed.reason}"
    rejected = tuple(Rejection(name if isinstance(name, str) else "", "error", reason) for name in names or [""])
    failed.report(_clients().state.jobs, Outcome(rejected=rejected))


@task(app, EMBED_BATCH, give_up=_give_up)
def embed(
    *,
    job: str,
    batch: int,
    collection: str,
    items: list[BatchImage],
    set_name: str | None = None,
    before: OutcomeJson | None = None,
) -> None:
    """Embed one batch."""
    embedder().embed(
        job=job,
        batch=batch,
        collection=collection,
        items=items,
        set_name=set_name,
        before=None if before is None else Outcome.from_json(before),
        delivery=Delivery.current(app),
    )
