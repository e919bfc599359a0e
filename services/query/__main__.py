"""``python -m services.query``: the query service's process."""

from services.query import blas_threads  # noqa: F401 -- first: numpy reads what it sets when it is loaded

# isort: split

import logging
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.query.grpc_service import QueryService
from services.query.live_recall import LiveRecall
from services.query.metrics import Metrics, MetricsInterceptor
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.searcher import Searcher
from shared.images import Limits
from shared.logs import configure
from shared.rpc.query.client import MAX_MESSAGE
from shared.rpc.query.query_pb2_grpc import add_QueryServicer_to_server
from shared.rpc.serving import ServingClient
from shared.settings import load_settings
from shared.state import BucketStore, Changes, State, connect
from shared.state.recall_log import RecallLog
from shared.stopping import StopSignal
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)

_THREADS = 8
_SERVICE = "artseek.query.v1.Query"


def main() -> None:
    """Serve until SIGTERM or SIGINT; healthy once the object store was listed."""
    settings = load_settings()
    configure(settings.log_level)
    index_url = settings.index_url.get_secret_value()
    following = connect(index_url, retries=0, timeout_s=2.0)
    replica_sync = ReplicaSync(
        catalog=Catalog(ObjectStore.from_settings(settings)),
        changes=Changes(following),
        state=State.of(following),
        folder=settings.query_copy,
    )
    metrics = Metrics(replica_sync)
    live_recall = LiveRecall(settings.recall_sample, log=RecallLog(connect(index_url, retries=1)), metrics=metrics)
    searcher = Searcher(
        replica_sync=replica_sync,
        buckets=BucketStore(connect(index_url, retries=1), limit=settings.bucket_limit),
        connect_model=lambda model, version: ServingClient(settings.serving_target, model, version=version),
        limits=Limits(max_bytes=settings.max_file_bytes, max_pixels=settings.max_pixels),
        exact_below=settings.exact_below,
        live_recall=live_recall,
    )
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="query"),
        interceptors=[MetricsInterceptor(metrics)],
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.so_reuseport", 0),
        ],
    )
    add_QueryServicer_to_server(QueryService(searcher, replica_sync), server)
    health_service = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    for name in ("", _SERVICE):
        health_service.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    if not server.add_insecure_port(settings.query_listen):
        raise SystemExit(f"cannot listen at ARTSEEK_QUERY_LISTEN={settings.query_listen}: is the port taken?")
    try:
        stop_showing = metrics.serve(settings.query_metrics_listen)
    except OSError as error:
        raise SystemExit(
            f"cannot listen at ARTSEEK_QUERY_METRICS_LISTEN={settings.query_metrics_listen}: {error}"
        ) from error
    server.start()
    replica_sync.start()
    live_recall.start()

    stop = StopSignal()
    while not replica_sync.listed.is_set() and not stop.wait(0.1):
        pass
    for name in ("", _SERVICE):
        health_service.set(name, health_pb2.HealthCheckResponse.SERVING)
    _log.info("serving at %s", settings.query_listen)
    stop.wait()
    health_service.enter_graceful_shutdown()
    replica_sync.stop()
    server.stop(grace=5).wait()
    stop_showing()


if __name__ == "__main__":
    main()
