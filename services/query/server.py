"""The query service: its gRPC server, the page with its metrics, and the threads that keep its replicas."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.query.grpc_service import QueryService
from services.query.live_recall import LiveRecall
from services.query.metrics import Metrics, MetricsInterceptor
from services.query.records.record_sync import RecordSync
from services.query.records.selection import Selections
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.bucket_cache import BucketCache
from services.query.search.bucket_metrics import BucketCollector
from services.query.search.searcher import Searcher
from shared.clients import Clients, connect_clients, connect_state
from shared.images.decoder_pool import DecoderPool
from shared.rpc.query.client import MAX_MESSAGE
from shared.rpc.query.query_pb2_grpc import add_QueryServicer_to_server
from shared.rpc.tls import grpc_tls, listen
from shared.settings import Settings
from shared.state import State
from shared.stopping import StopSignal

_log = logging.getLogger(__name__)

_THREADS = 8
_SERVICE = "artseek.query.v1.Query"
_GRACE_S = 5.0


class QueryServer:
    """Serves at the addresses of the settings.

    Args:
        clients: What searches work with.
        sync_state: Redis as the replica sync reads it: it gives up soon, since it tries again by itself.
    """

    def __init__(self, settings: Settings, clients: Clients, sync_state: State) -> None:
        self._settings = settings
        self._replica_sync = ReplicaSync(clients.catalog, sync_state, settings.query_copy)
        self._record_sync = RecordSync(clients.store, sync_state.record_changes, settings.query_copy)
        self._metrics = Metrics(self._replica_sync)
        self._live_recall = LiveRecall(settings.recall_sample, clients.state.recall_log, self._metrics)
        self._decoder = DecoderPool.from_settings(settings, threads=min(_THREADS, settings.web_threads))
        bucket_cache = BucketCache(settings.bucket_memory_mb)
        self._metrics.registry.register(BucketCollector(bucket_cache))
        searcher = Searcher(
            clients,
            self._replica_sync,
            decoder=self._decoder,
            exact_below=settings.exact_below,
            live_recall=self._live_recall,
            bucket_cache=bucket_cache,
        )
        self._health = health.HealthServicer()
        service = QueryService(searcher, self._replica_sync, Selections(self._record_sync))
        self._grpc = _grpc_server(service, self._health, self._metrics)

    def run(self, stop: StopSignal) -> None:
        """Serve until `stop`; the service is healthy once the object store was listed.

        Raises:
            SystemExit: An address is taken.
        """
        stop_metrics = self._listen()
        self._grpc.start()
        self._replica_sync.start()
        self._record_sync.start()
        self._live_recall.start()
        self._decoder.warm_up()
        while not self._replica_sync.listed.is_set() and not stop.wait(0.1):
            pass
        _set_health(self._health, health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving at %s", self._settings.query_listen)
        stop.wait()
        self._health.enter_graceful_shutdown()
        stopped = self._grpc.stop(grace=_GRACE_S)
        self._replica_sync.stop()
        self._record_sync.stop()
        stopped.wait()
        self._decoder.close()
        stop_metrics()

    def _listen(self) -> Callable[[], None]:
        """Listen at both addresses; returns what stops the page with the metrics."""
        grpc_address, metrics_address = self._settings.query_listen, self._settings.query_metrics_listen
        if not listen(self._grpc, grpc_address, grpc_tls(self._settings)):
            raise SystemExit(f"cannot listen at ARTSEEK_QUERY_LISTEN={grpc_address}: is the port taken?")
        try:
            return self._metrics.serve(metrics_address, token=self._settings.metrics_token.get_secret_value())
        except OSError as error:
            raise SystemExit(f"cannot listen at ARTSEEK_QUERY_METRICS_LISTEN={metrics_address}: {error}") from error


def make_server(settings: Settings) -> QueryServer:
    """Return the server with clients from the settings."""
    return QueryServer(
        settings,
        connect_clients(settings, retries=1),
        sync_state=connect_state(settings, retries=0, timeout_s=2.0),
    )


def _grpc_server(service: QueryService, health_service: health.HealthServicer, metrics: Metrics) -> grpc.Server:
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="query"),
        interceptors=[MetricsInterceptor(metrics)],
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.so_reuseport", 0),
        ],
    )
    add_QueryServicer_to_server(service, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    _set_health(health_service, health_pb2.HealthCheckResponse.NOT_SERVING)
    return server


def _set_health(
    health_service: health.HealthServicer, status: "health_pb2.HealthCheckResponse.ServingStatus.ValueType"
) -> None:
    for name in ("", _SERVICE):
        health_service.set(name, status)
