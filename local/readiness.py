"""How the local system sees that one of its servers is ready."""

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import grpc
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.errors import Unavailable
from shared.health import heartbeat
from shared.health.store_health import PROBE_CONTENT, PROBE_KEY
from shared.rpc.tls import GrpcTls, open_channel
from shared.settings import Settings
from shared.state import connect
from shared.storage.object_store import ObjectStore


def redis_ready(url: str) -> Callable[[], bool]:
    """Return a check whether the Redis or Valkey at a URL answers."""

    def ready() -> bool:
        try:
            return bool(redis.Redis.from_url(url, socket_timeout=1.0).ping())
        except (redis.RedisError, OSError):
            return False

    return ready


def store_ready(settings: Settings) -> Callable[[], bool]:
    """Return a check whether the object store takes objects; it makes the bucket if there is none."""
    host, _, port = settings.s3_endpoint.rpartition(":")

    def ready() -> bool:
        try:
            with socket.create_connection((host, int(port)), timeout=1.0):
                pass
            store = ObjectStore.from_settings(settings)
            store.ensure_bucket()
            store.put(PROBE_KEY, PROBE_CONTENT)  # the volume server has joined
        except (Unavailable, OSError):
            return False
        return True

    return ready


def grpc_ready(target: str, tls: GrpcTls | None) -> Callable[[], bool]:
    """Return a check whether the gRPC server at host:port says that it serves."""

    def ready() -> bool:
        with open_channel(target, tls) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1.0)
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return ready


def beat_ready(settings: Settings, service: str) -> Callable[[], bool]:
    """Return a check whether a worker has written its heartbeat since this call."""
    client = connect(settings.index_url.get_secret_value())
    asked = time.monotonic()

    def ready() -> bool:
        try:
            age = heartbeat.beats(client).get(service)
        except Unavailable:
            return False
        return age is not None and age < time.monotonic() - asked

    return ready


def http_ready(url: str) -> Callable[[], bool]:
    """Return a check whether a URL answers with 200."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=1.0) as answer:  # noqa: S310 -- our own address
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return ready
