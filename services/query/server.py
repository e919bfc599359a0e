"""The query service in one process: its gRPC server, the page with its metrics, and the threads that keep its replicas.

A process of a group has no such page, for its supervisor shows the metrics of all; and it listens twice: where clients
do call, at a port that all processes of the group share, and where the other processes hand it requests.
"""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.query.grpc_service import QueryService
from services.query.handlers import SERVICE, add_handlers, handlers_of
from services.query.live_recall import LiveRecall
from services.query.metrics import Metrics
from services.query.processes.handover import Answer, HandoverServer
from services.query.processes.joint_metrics import STATES, states_handler
from services.query.processes.process_group import ProcessGroup
from services.query.processes.request_sharing import RequestSharing, counted
from services.query.records.record_sync import RecordSync
from services.query.records.selection import Selections
from services.query.replica.index_watch import CHECKING
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.bucket_cache import BucketCache
from services.query.search.bucket_metrics import BucketCollector
from services.query.search.searcher import Searcher
from shared.clients import Clients, connect_clients, connect_state
from shared.images.decoder_pool import DecoderPool
from shared.rpc.query.client import MAX_MESSAGE
from shared.rpc.tls import Options, grpc_tls, listen
from shared.settings import Settings
from shared.state import State
from shared.stopping import StopSignal

_log = logging.getLogger(__name__)

_THREADS = 8
_DECODERS = 2
_MOST_SHARED = 4  # times as many threads has a process that hands requests on: they wait for most of the time
_GRACE_S = 5.0
_IN_STEP_S = 5.0  # that a process waits for Redis before it takes requests, which others take meanwhile
_FOR_CLIENTS: Options = [  # which look anew, now and then, what replicas of the service there are
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
]


class QueryServer:
    """Serves at the addresses of the settings.

    Args:
        clients: What searches work with.
        sync_state: Redis as the replica sync reads it: it gives up soon, since it tries again by itself.
        group: The processes of which this is one; None: it is the only one.
    """

    def __init__(
        self, settings: Settings, clients: Clients, sync_state: State, group: ProcessGroup | None = None
    ) -> None:
        self._settings, self._group = settings, group
        copy, count = settings.query_copy, 1 if group is None else group.count
        self._replica_sync = ReplicaSync(clients.catalog, sync_state, copy)
        records = copy if group is None else group.records(copy)
        self._record_sync = RecordSync(clients.store, sync_state.record_changes, records)
        self._metrics = Metrics(self._replica_sync)
        self._live_recall = LiveRecall(settings.recall_sample, clients.state.recall_log, self._metrics)
        self._decoder = DecoderPool.from_settings(
            settings, threads=min(_THREADS, settings.web_threads), processes=max(1, _DECODERS // count)
        )
        megabytes = -(-settings.bucket_memory_mb // count)  # that of all processes together
        bucket_cache = BucketCache(megabytes, self._metrics.counts.buckets_read)
        self._metrics.states.register(BucketCollector(bucket_cache))
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
        self._handlers = handlers_of(service, self._metrics)
        _set_health(self._health, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._servers: list[grpc.Server] = []
        self._handover: HandoverServer | None = None
        self._closing: list[Callable[[], None]] = []  # what is closed last

    def run(self, stop: StopSignal) -> None:
        """Serve until `stop`; the service is healthy once the object store was listed.

        Raises:
            SystemExit: An address is taken.
        """
        if self._group is None:
            self._serve_alone()
        self._replica_sync.start()
        self._record_sync.start()
        self._live_recall.start()
        self._decoder.warm_up()
        while not self._replica_sync.listed.is_set() and not stop.wait(0.1):
            pass
        if self._group is not None and not stop.requested:
            self._join(self._group, stop)
        _set_health(self._health, health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving at %s", self._settings.query_listen)
        stop.wait()
        if self._group is not None:
            self._group.board.leave(self._group.number)
        self._health.enter_graceful_shutdown()
        stopped = [server.stop(grace=_GRACE_S) for server in self._servers]
        if self._handover is not None:
            self._handover.stop(_GRACE_S)
        self._replica_sync.stop()
        self._record_sync.stop()
        for event in stopped:
            event.wait()
        self._decoder.close()
        for close in self._closing:
            close()

    def _serve_alone(self) -> None:
        """Listen for clients and for Prometheus."""
        server = self._listening_server(self._handlers, threads=_THREADS, reuse_port=False)
        address = self._settings.query_metrics_listen
        try:
            close = self._metrics.serve(address, token=self._settings.metrics_token.get_secret_value())
        except OSError as error:
            raise SystemExit(f"cannot listen at ARTSEEK_QUERY_METRICS_LISTEN={address}: {error}") from error
        self._closing.append(close)
        server.start()

    def _join(self, group: ProcessGroup, stop: StopSignal) -> None:
        """Listen for clients and for the other processes, once this one can answer as they do.

        Before it has listed the store it would say that there are no collections, while others answer.
        """
        until = time.monotonic() + _IN_STEP_S
        while not self._is_in_step() and time.monotonic() < until and not stop.wait(0.1):
            pass
        sharing = RequestSharing(group)
        self._closing.append(sharing.close)
        handed = {method: counted(group, answer) for method, answer in self._handlers.items()}
        self._handover = HandoverServer(group.socket, {**handed, STATES: states_handler(self._metrics.states)})
        shared = {method: sharing.shared(method, answer) for method, answer in self._handlers.items()}
        server = self._listening_server(shared, threads=_THREADS * min(_MOST_SHARED, group.count), reuse_port=True)
        self._handover.start()
        server.start()
        group.board.enter(group.number)

    def _is_in_step(self) -> bool:
        """Return whether what was announced is known, and indexes were checked."""
        replicas = self._replica_sync.replicas.values()
        return self._replica_sync.connected and all(replica.index_fault != CHECKING for replica in replicas)

    def _listening_server(self, handlers: Mapping[str, Answer], *, threads: int, reuse_port: bool) -> grpc.Server:
        """Return a server that has the address for clients, and is to be started."""
        server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="query"),
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE),
                ("grpc.max_send_message_length", MAX_MESSAGE),
                ("grpc.so_reuseport", int(reuse_port)),
                *_FOR_CLIENTS,
            ],
        )
        add_handlers(server, handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        address = self._settings.query_listen
        if not listen(server, address, grpc_tls(self._settings)):
            raise SystemExit(f"cannot listen at ARTSEEK_QUERY_LISTEN={address}: is the port taken?")
        self._servers.append(server)
        return server


def make_server(settings: Settings, group: ProcessGroup | None = None) -> QueryServer:
    """Return the server with clients from the settings."""
    return QueryServer(
        settings,
        connect_clients(settings, retries=1),
        sync_state=connect_state(settings, retries=0, timeout_s=2.0),
        group=group,
    )


def _set_health(
    health_service: health.HealthServicer, status: "health_pb2.HealthCheckResponse.ServingStatus.ValueType"
) -> None:
    for name in ("", SERVICE):
        health_service.set(name, status)
