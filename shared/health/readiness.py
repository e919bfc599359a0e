"""Which parts of the system are up: each is asked at the same time, and none can hold up the answer.

Redis and the object store are written to, since a server that only answers may refuse every write.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typing_extensions import TypedDict

from shared.errors import Unavailable
from shared.health import heartbeat
from shared.health.redis_health import redis_health
from shared.health.store_health import StoreHealth
from shared.rpc.tls import GrpcTls, grpc_tls, open_channel
from shared.settings import Settings
from shared.state import check, connect
from shared.state.server_refusals import BROKER, INDEX
from shared.storage.object_store import ObjectStore
from shared.system_identity import SystemIdentity

_TIMEOUT_S = 2.0
_SILENCE_S = 4 * heartbeat.INTERVAL_S
WORKERS = ("embedder", "indexer", "maintenance", "evaluator")

Check = Callable[[], str | None]
"""Returns what should be mended soon though the part works, or None; raises if it is down."""


class PartAnswer(TypedDict):
    """Whether a part is up; and why not, or what should be mended soon though it is."""

    up: bool
    reason: str | None


class ReadinessAnswer(TypedDict):
    """Whether every part is up, whether one that is should be mended soon, and each part."""

    ready: bool
    degraded: bool
    parts: dict[str, PartAnswer]


class Readiness:
    """Asks every part. A check that hangs is waited for by later calls, never started a second time beside it."""

    def __init__(self, settings: Settings) -> None:
        self._checks = _checks(settings)
        self._threads = ThreadPoolExecutor(len(self._checks), thread_name_prefix="ready")
        self._running: dict[str, Future[str | None]] = {}
        self._lock = threading.Lock()

    def ask(self) -> ReadinessAnswer:
        """Return which parts are up, within a little more than two seconds."""
        until = time.monotonic() + _TIMEOUT_S
        asked = {part: self._start(part, check) for part, check in self._checks.items()}
        found = {part: _outcome(future, until - time.monotonic()) for part, future in asked.items()}
        return ReadinessAnswer(
            ready=all(part["up"] for part in found.values()),
            degraded=any(part["up"] and part["reason"] is not None for part in found.values()),
            parts=found,
        )

    def _start(self, part: str, check: Check) -> Future[str | None]:
        with self._lock:
            running = self._running.get(part)
            if running is None or running.done():
                running = self._running[part] = self._threads.submit(check)
            return running


def _outcome(future: "Future[str | None]", seconds: float) -> PartAnswer:
    try:
        note = future.result(max(0.0, seconds))
    except Late:
        return PartAnswer(up=False, reason=f"no answer within {_TIMEOUT_S:g} s")
    except Exception as error:
        return PartAnswer(up=False, reason=str(error) or type(error).__name__)
    return PartAnswer(up=True, reason=note)


def _checks(settings: Settings) -> Mapping[str, Check]:
    # Half the time, so that of a cluster the node that hangs can be named.
    index = connect(settings.index_url.get_secret_value(), timeout_s=_TIMEOUT_S / 2, retries=1)
    broker = connect(settings.broker_url.get_secret_value(), timeout_s=_TIMEOUT_S)
    objects = ObjectStore.from_settings(settings, connections=4)
    tls = grpc_tls(settings)
    store, identity = StoreHealth(settings, objects), SystemIdentity(settings, objects)

    def ask_index() -> str | None:
        check(index)
        note = redis_health(index, INDEX)
        identity.compare(index, INDEX)
        return note

    def ask_broker() -> str | None:
        note = redis_health(broker, BROKER)
        identity.compare(broker, BROKER)
        return note

    def ask_worker(service: str) -> None:
        silence = heartbeat.beats(index).get(service)
        if silence is None:
            raise Unavailable(f"no {service} was ever heard of")
        if silence > _SILENCE_S:
            raise Unavailable(f"no {service} was heard of for {silence:.0f} s")

    return {
        "index": ask_index,
        "broker": ask_broker,
        "object store": store.ask,
        "query service": _health_check("query service", settings.query_target, tls),
        "model server": _health_check("model server", settings.serving_target, tls),
        **{service: lambda service=service: ask_worker(service) for service in WORKERS},  # type: ignore[misc]
    }


def _health_check(part: str, target: str, tls: GrpcTls | None) -> Check:
    """Return a check by gRPC's health protocol; a server that answers but does not know the protocol is up."""
    stub = health_pb2_grpc.HealthStub(open_channel(target, tls))

    def check() -> str | None:
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise Unavailable(f"the {part} at {target} does not answer: {error.code().name.lower()}") from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise Unavailable(f"the {part} at {target} is not ready to serve")
        return None

    return check
