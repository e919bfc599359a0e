"""The query service as a whole: its parts made from the settings, started, and stopped in order."""

import logging
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.query.grpc_service import QueryService
from services.query.live_recall import LiveRecall
from services.query.metrics import Metrics, MetricsInterceptor
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.searcher import Searcher
from shared.clients import connect_clients, connect_state
from shared.images import Limits
from shared.rpc.query.client import MAX_MESSAGE
from shared.rpc.query.query_pb2_grpc import add_QueryServicer_to_server
from shared.settings import Settings
from shared.state import connect
from shared.state.recall_log import RecallLog
from shared.stopping import StopSignal

_log = logging.getLogger(__name__)

_THREADS = 8
_SERVICE = "artseek.query.v1.Query"


class QueryServer:
    """The gRPC server, the replicas that it searches, live recall, and the page of metrics."""

    def __init__(self, settings: Settings) -> None:
        """Make the parts; nothing is sent yet.

        Raises:
            SystemExit: The port is taken.
        """
        self._settings = settings
        # Searches do not wait for Redis as long as a worker does: without it, the exact scan goes on.
        clients = connect_clients(settings, retries=1)
        following = connect_state(settings, retries=0, timeout_s=2.0)
        self._replica_sync = ReplicaSync(
            catalog=clients.catalog, changes=following.changes, state=following, folder=settings.query_copy
        )
        self._metrics = Metrics(self._replica_sync)
        recall_log = RecallLog(connect(settings.index_url.get_secret_value(), retries=1))
        self._live_recall = LiveRecall(settings.recall_sample, log=recall_log, metrics=self._metrics)
        searcher = Searcher(
            replica_sync=self._replica_sync,
            buckets=clients.state.buckets,
            connect_model=clients.connect_model,
            limits=Limits(max_bytes=settings.max_file_bytes, max_pixels=settings.max_pixels),
            exact_below=settings.exact_below,
            live_recall=self._live_recall,
        )
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="query"),
            interceptors=[MetricsInterceptor(self._metrics)],
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE),
                ("grpc.max_send_message_length", MAX_MESSAGE),
                ("grpc.so_reuseport", 0),
            ],
        )
        add_QueryServicer_to_server(QueryService(searcher, self._replica_sync), self._server)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        if not self._server.add_insecure_port(settings.query_listen):
            raise SystemExit(f"cannot listen at ARTSEEK_QUERY_LISTEN={settings.query_listen}: is the port taken?")

    def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", _SERVICE):
            self._health.set(name, status)

    def serve(self, stop: StopSignal) -> None:
        """Serve until a stop is requested; healthy once the object store was listed.

        Raises:
            SystemExit: The port of the metrics is taken.
        """
        settings = self._settings
        try:
            stop_metrics = self._metrics.serve(settings.query_metrics_listen)
        except OSError as error:
            raise SystemExit(
                f"cannot listen at ARTSEEK_QUERY_METRICS_LISTEN={settings.query_metrics_listen}: {error}"
            ) from error
        self._server.start()
        self._replica_sync.start()
        self._live_recall.start()
        while not self._replica_sync.listed.is_set() and not stop.wait(0.1):
            pass
        self._set_health(health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving at %s", settings.query_listen)
        stop.wait()
        self._health.enter_graceful_shutdown()
        self._replica_sync.stop()
        self._server.stop(grace=5).wait()
        stop_metrics()
