"""Routes for operators: liveness, readiness of every part, and Prometheus metrics."""

import time
from collections.abc import Iterator

from flask import Flask, Response, current_app
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.web.access import IMPERSONAL, OPEN, GuardedBlueprint, may, of_system
from services.web.api.operations import reply
from services.web.metrics import current_metrics
from shared.errors import ArtseekError, Unavailable
from shared.health import heartbeat
from shared.health.readiness import Readiness
from shared.messaging.task_queue import QUEUES
from shared.rpc.query import Collection
from shared.rpc.query.connecting import connect_query
from shared.settings import Settings
from shared.state import connect, guarded
from shared.state.tally import read_tally
from shared.state.verifications import Verifications

_SCRAPE_S = 2.0
_NAME = "artseek-readiness"
blueprint = GuardedBlueprint("ops", __name__)


def attach(app: Flask, settings: Settings) -> None:
    """Add the routes to the application; no server is contacted yet."""
    app.extensions[_NAME] = Readiness(settings)
    with app.app_context():
        current_metrics().registry.register(_SystemCollector(settings, app.extensions[_NAME]))
    app.register_blueprint(blueprint)


@blueprint.get("/healthz", access=IMPERSONAL)
def healthz() -> ResponseReturnValue:
    """Return 200 while the process runs, whichever parts are down."""
    return reply({"alive": True})


@blueprint.get("/readyz", access=OPEN)
def readyz() -> ResponseReturnValue:
    """Return the state of every part: status 200 if all parts are up, else 503.

    Those who have no role in the whole system are told no more than whether it is ready.
    """
    readiness: Readiness = current_app.extensions[_NAME]
    report = readiness.ask()
    status = 200 if report["ready"] else 503
    return reply(report if may("inspect") else {"ready": report["ready"]}, status)


@blueprint.get("/metrics", access=of_system("inspect"))
def metrics() -> ResponseReturnValue:
    """Return the metrics in the text format of Prometheus."""
    return Response(generate_latest(current_metrics().registry), content_type=CONTENT_TYPE_LATEST)


class _SystemCollector(Collector):
    """Collects the metrics of other parts at every scrape; the metrics of a part that is down are left out."""

    def __init__(self, settings: Settings, readiness: Readiness) -> None:
        self._readiness = readiness
        self._query = connect_query(settings, deadline_s=_SCRAPE_S)
        self._broker = connect(settings.broker_url.get_secret_value(), timeout_s=_SCRAPE_S)
        self._index = connect(settings.index_url.get_secret_value(), timeout_s=_SCRAPE_S, retries=1)

    def describe(self) -> list[Metric]:
        """Return no metrics: which ones exist is known only at a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the state of the parts, collection sizes, queue lengths and the results of the workers.

        Workers serve no metrics themselves: they listen on no port.
        """
        up = GaugeMetricFamily("artseek_part_up", "Whether a part of the system is up.", labels=["part"])
        degraded = GaugeMetricFamily(
            "artseek_part_degraded", "Whether a part that is up should be mended soon.", labels=["part"]
        )
        parts = self._readiness.ask()["parts"]
        for part, state in parts.items():
            up.add_metric([part], float(state["up"]))
            degraded.add_metric([part], float(state["up"] and state["reason"] is not None))
        yield from (up, degraded)
        images = GaugeMetricFamily("artseek_collection_images", "Images of a collection.", labels=["collection"])
        for collection in self._collections() if parts["query service"]["up"] else ():
            images.add_metric([collection.name], collection.images)
        yield images
        waiting = GaugeMetricFamily("artseek_queue_messages", "Messages that wait in a queue.", labels=["queue"])
        for queue, count in self._queue_lengths().items() if parts["broker"]["up"] else ():
            waiting.add_metric([queue], count)
        yield waiting
        if parts["index"]["up"]:
            yield from self._worker_metrics()

    def _worker_metrics(self) -> Iterator[Metric]:
        silence = GaugeMetricFamily(
            "artseek_worker_silence_seconds", "Time since a worker last said that it lives.", labels=["worker"]
        )
        images = CounterMetricFamily(
            "artseek_images", "Images that were embedded and added, or were there already.", labels=["outcome"]
        )
        rejected = CounterMetricFamily("artseek_images_rejected", "Images that were not taken.", labels=["code"])
        try:
            beats, tally = heartbeat.beats(self._index), read_tally(self._index)
            verification = Verifications(self._index).get()
        except Unavailable:
            return
        for worker, seconds in sorted(beats.items()):
            silence.add_metric([worker], seconds)
        for outcome, count in (("added", tally.added), ("duplicate", tally.duplicates)):
            images.add_metric([outcome], count)
        for code, count in sorted(tally.rejected.items()):
            rejected.add_metric([code], count)
        yield from (silence, images, rejected)
        if verification is not None:
            damage = GaugeMetricFamily(
                "artseek_damage", "What the last verification found damaged.", labels=["collection", "kind"]
            )
            for found in verification.damage:
                damage.add_metric([found.collection or "", found.kind], found.count)
            age = time.time() - verification.ended
            yield damage
            yield GaugeMetricFamily("artseek_verification_age_seconds", "Time since the last verification.", value=age)

    def _collections(self) -> list[Collection]:
        try:
            return self._query.collections()
        except ArtseekError:
            return []

    def _queue_lengths(self) -> dict[str, int]:
        try:
            with guarded():
                return {queue: int(self._broker.llen(queue)) for queue in QUEUES}
        except Unavailable:
            return {}
