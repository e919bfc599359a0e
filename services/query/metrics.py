"""What the query service counts about itself, and the page that shows it to Prometheus."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.query import metrics_page
from services.query.counts import LATEST, Counts
from services.query.replica.replica_sync import ReplicaSync
from shared.rpc.query import MODE_NAMES
from shared.rpc.query import query_pb2 as messages


class Metrics:
    """The metrics of one process of a query service, whose replicas `replica_sync` keeps.

    Attributes:
        counts: What is counted of requests and searches.
        states: What is looked up at every scrape.
        registry: Both.
    """

    def __init__(self, replica_sync: ReplicaSync) -> None:
        self.counts, self.states, self.registry = Counts(), CollectorRegistry(), CollectorRegistry()
        self._latest: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=LATEST))
        ProcessCollector(registry=self.states)
        self.states.register(_ReplicaCollector(replica_sync, self._latest))
        for registry in (self.states, self.counts.registry):
            self.registry.register(registry)

    def recall(self, collection: str, recall: float) -> None:
        """Count a checked answer."""
        self.counts.recalls.labels(collection).observe(recall)
        self._latest[collection].append(recall)

    def recall_dropped(self, collection: str) -> None:
        """Count an answer that was to be checked and was not."""
        self.counts.dropped.labels(collection).inc()

    def answered(self, answers: list[messages.SearchResponse]) -> None:
        """Count the answers to a search or to a batch, whose stages are those of all of it."""
        by_mode: defaultdict[str, list[int]] = defaultdict(list)
        for answer in answers:
            by_mode[MODE_NAMES[answer.mode]].append(answer.candidates)
        for mode, candidates in by_mode.items():
            self.counts.searches.labels(mode).inc(len(candidates))
            observe = self.counts.candidates.labels(mode).observe
            for number in candidates:
                observe(number)
        for stage, spent in answers[0].timings_ms.items() if answers else ():
            self.counts.stages.labels(stage, MODE_NAMES[answers[0].mode]).observe(spent / 1000)

    def measured(self, method: str, answer_to: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Return what answers requests of a method, counted with what searches say of themselves.

        Those of searches that are made to evaluate the index are not.
        """
        counts = self.counts

        def measured(request: Any, context: Any) -> Any:
            began, code = time.perf_counter(), "UNKNOWN"
            try:
                answer = answer_to(request, context)
                code = "OK"
            except Exception:
                code = (context.code() or grpc.StatusCode.UNKNOWN).name
                raise
            finally:
                counts.requests.labels(method, code).inc()
                counts.seconds.labels(method).observe(time.perf_counter() - began)
            if isinstance(answer, messages.SearchResponse) and not request.for_evaluation:
                self.answered([answer])
            elif isinstance(answer, messages.SearchBatchResponse) and not request.options.for_evaluation:
                self.answered(list(answer.answers))
            return answer

        return measured

    def serve(self, listen: str, *, token: str = "") -> Callable[[], None]:
        """Show the metrics at ``http://<listen>/metrics`` to whoever sends the token; returns what stops it.

        Raises:
            OSError: It cannot be listened there.
        """
        return metrics_page.serve(self.registry, listen, token=token)


class _ReplicaCollector(Collector):
    """What is looked up at every scrape: the replicas, and the latest recall of the collections that exist."""

    def __init__(self, replica_sync: ReplicaSync, latest: dict[str, deque[float]]) -> None:
        self._replica_sync, self._latest = replica_sync, latest

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: which collections there are is only known when it is asked."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the state of the replicas."""
        yield GaugeMetricFamily("artseek_query_processes", "Processes that answer searches.", value=1.0)
        yield GaugeMetricFamily(
            "artseek_query_index_connected",
            "Whether the index answered last.",
            value=float(self._replica_sync.connected),
        )
        labels = ["collection"]
        images = GaugeMetricFamily("artseek_query_images", "Images that searches may find.", labels=labels)
        damaged = GaugeMetricFamily(
            "artseek_query_damaged_segments", "Segments that are damaged or missing.", labels=labels
        )
        latest = GaugeMetricFamily(
            "artseek_live_recall_latest", f"Mean recall of the last {LATEST} checked answers.", labels=labels
        )
        for name, replica in sorted(self._replica_sync.replicas.items()):
            images.add_metric([name], replica.view.images)
            damaged.add_metric([name], len(replica.damaged))
            if recalls := list(self._latest.get(name, ())):
                latest.add_metric([name], sum(recalls) / len(recalls))
        yield from (images, damaged, latest)
