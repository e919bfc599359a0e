"""``python -m shared.health.container_check SERVICE``: exit status 0 if the container works, or 1 and why.

Each check asks the process beside it, never the servers it depends on, and imports only what that service has.
"""

import argparse
import http.client
import logging
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from shared.errors import ArtseekError, Unavailable
from shared.settings import Settings, load_settings

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
# Where a service that listens at every address of its container is reached from within.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- compared, not bound


def check_embedder(settings: Settings) -> None:
    """Ask this container's embedder for an answer over the broker; raises `Unavailable`."""
    _check_worker(settings, "embedder")


def check_indexer(settings: Settings) -> None:
    """Ask this container's indexer for an answer over the broker; raises `Unavailable`."""
    _check_worker(settings, "indexer")


def check_maintenance(settings: Settings) -> None:
    """Ask this container's maintenance worker for an answer over the broker; raises `Unavailable`."""
    _check_worker(settings, "maintenance")


def check_evaluator(settings: Settings) -> None:
    """Ask this container's evaluator for an answer over the broker; raises `Unavailable`."""
    _check_worker(settings, "evaluator")


def check_query(settings: Settings) -> None:
    """Ask the query service by gRPC's health protocol; raises `Unavailable`."""
    import grpc  # noqa: PLC0415 -- the indexer's image lacks it
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    from shared.rpc.tls import grpc_tls, open_channel  # noqa: PLC0415

    host, port = _address(settings.query_listen)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with open_channel(target, grpc_tls(settings), [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise Unavailable(f"nothing answers at {target}: {error.code().name.lower()}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise Unavailable("the query service has not listed the object store yet, or is stopping")


def check_web(settings: Settings) -> None:
    """Ask the web service whether it lives; raises `Unavailable`."""
    host, port = _address(settings.web_listen)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"nothing answers at {host}:{port}: {error}") from error
    finally:
        connection.close()
    if status != http.client.OK:
        raise Unavailable(f"the web service answers {status}, expected 200")


CHECKS: Final[Mapping[str, Callable[[Settings], None]]] = {
    "embedder": check_embedder,
    "indexer": check_indexer,
    "maintenance": check_maintenance,
    "evaluator": check_evaluator,
    "query": check_query,
    "web": check_web,
}


def _check_worker(settings: Settings, service: str) -> None:
    # By name, since with several replicas the heartbeat of one would speak for all.
    from kombu.exceptions import OperationalError  # noqa: PLC0415 -- the query service's image lacks it
    from redis.exceptions import RedisError  # noqa: PLC0415

    from shared.messaging.celery_app import make_app  # noqa: PLC0415

    node = f"{service}@{socket.gethostname()}"
    app = make_app(settings, name="healthcheck")
    app.conf.broker_connection_timeout = _TIMEOUT_S
    try:
        answers = app.control.ping(destination=[node], timeout=_TIMEOUT_S, limit=1)
    except (OperationalError, RedisError, OSError) as error:
        raise Unavailable(f"the broker (Redis or Valkey) does not answer: {error}") from error
    if {node: {"ok": "pong"}} not in (answers or []):
        raise Unavailable(f"the worker {node} does not answer")


def _address(listen: str) -> tuple[str, int]:
    parts = urlsplit(f"//{listen}")
    host = parts.hostname or ""
    return _LOOPBACK.get(host, host), parts.port or 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m shared.health.container_check", description=__doc__)
    parser.add_argument("service", choices=sorted(CHECKS))
    service = parser.parse_args(arguments).service
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        CHECKS[service](load_settings())
    except (ArtseekError, ValueError) as error:  # ValueError: settings that do not fit
        log.error("%s: %s", service, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
