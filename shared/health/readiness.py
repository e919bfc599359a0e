"""Which parts of the system are up: each is asked at the same time, and none can hold up the answer."""

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
from shared.settings import Settings
from shared.state import check, connect, guarded
from shared.storage import layout
from shared.storage.object_store import ObjectStore

_TIMEOUT_S = 2.0
_SILENCE_S = 4 * heartbeat.INTERVAL_S
WORKERS = ("embedder", "indexer", "maintenance", "evaluator")

Check = Callable[[], None]


class PartAnswer(TypedDict):
    """Whether a part is up, and if not, why."""

    up: bool
    reason: str | None


class ReadinessAnswer(TypedDict):
    """Whether every part is up, and each part."""

    ready: bool
    parts: dict[str, PartAnswer]


class Readiness:
    """Asks every part. A check that hangs is waited for by later calls, never started a second time beside it."""

    def __init__(self, settings: Settings) -> None:
        self._checks = _checks(settings)
        self._threads = ThreadPoolExecutor(len(self._checks), thread_name_prefix="ready")
        self._running: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    def ask(self) -> ReadinessAnswer:
        """Return which parts are up, within a little more than two seconds."""
        until = time.monotonic() + _TIMEOUT_S
        asked = {part: self._start(part, check) for part, check in self._checks.items()}
        found = {part: _outcome(future, until - time.monotonic()) for part, future in asked.items()}
        return ReadinessAnswer(ready=all(part["up"] for part in found.values()), parts=found)

    def _start(self, part: str, check: Check) -> Future[None]:
        with self._lock:
            running = self._running.get(part)
            if running is None or running.done():
                running = self._running[part] = self._threads.submit(check)
            return running


def _outcome(future: "Future[None]", seconds: float) -> PartAnswer:
    try:
        future.result(max(0.0, seconds))
    except Late:
        return PartAnswer(up=False, reason=f"no answer within {_TIMEOUT_S:g} s")
    except Exception as error:
        return PartAnswer(up=False, reason=str(error) or type(error).__name__)
    return PartAnswer(up=True, reason=None)


def _checks(settings: Settings) -> Mapping[str, Check]:
    # Half the time, so that of a cluster the node that hangs can be named.
    index = connect(settings.index_url.get_secret_value(), timeout_s=_TIMEOUT_S / 2, retries=1)
    broker = connect(settings.broker_url.get_secret_value(), timeout_s=_TIMEOUT_S)
    store = ObjectStore.from_settings(settings, connections=2)

    def ask_broker() -> None:
        try:
            with guarded():
                broker.ping()
        except Unavailable as error:
            raise Unavailable(str(error).replace("the index", "the broker", 1)) from error

    def ask_worker(service: str) -> None:
        silence = heartbeat.beats(index).get(service)
        if silence is None:
            raise Unavailable(f"no {service} was ever heard of")
        if silence > _SILENCE_S:
            raise Unavailable(f"no {service} was heard of for {silence:.0f} s")

    return {
        "index": lambda: check(index),
        "broker": ask_broker,
        "object store": lambda: _ask_store(store),
        "query service": _health_check("query service", settings.query_target),
        "model server": _health_check("model server", settings.serving_target),
        **{service: lambda service=service: ask_worker(service) for service in WORKERS},  # type: ignore[misc]
    }


def _ask_store(store: ObjectStore) -> None:
    store.exists(layout.manifest_key("default"))


def _health_check(part: str, target: str) -> Check:
    """Return a check by gRPC's health protocol; a server that answers but does not know the protocol is up."""
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(target, options=options))

    def check() -> None:
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                return
            raise Unavailable(f"the {part} at {target} does not answer: {error.code().name.lower()}") from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise Unavailable(f"the {part} at {target} is not ready to serve")

    return check
