"""The connection to Redis or Valkey, a single server or a cluster, and its failures as our errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from shared.errors import IndexMisconfigured, IndexUnavailable
from shared.state import cluster
from shared.state.server_refusals import INDEX, ServerKind

# redis-py declares the replies of every protocol and mode at once, which fits no code that uses one of them.
Client = Any

_IS_CLUSTER = "the index (Redis or Valkey) runs as a cluster: begin its URL, ARTSEEK_INDEX_URL, with redis+cluster://"


def connect(url: str, *, timeout_s: float = 5.0, retries: int = 4) -> Client:
    """Return a client for the server, or the cluster of ``redis+cluster://``, at `url`; nothing is sent yet.

    A lost connection is tried again `retries` times, by default for about a second, which a restarting server takes.
    Every command sent through it may therefore run twice, so callers send only commands that may.
    """
    if url.startswith(cluster.SCHEMES):
        return cluster.connect_cluster(url, timeout_s=timeout_s, retries=retries)
    return redis.Redis.from_url(
        url,
        protocol=2,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
        # A primary that has become a replica may have passed its name on: connecting anew follows it.
        retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, redis.ReadOnlyError],
    )


def servers(client: Client) -> list[Client]:
    """Return a client for each server that holds a part of the index: for all of its keys, each has to be asked."""
    return list(client.primaries().values()) if isinstance(client, cluster.Lazy) else [client]


def check(client: Client) -> None:
    """Ask every server of the index for an answer.

    Raises:
        IndexUnavailable: One does not answer, or not for its keys; the message names those that do not.
    """
    with guarded():
        if not isinstance(client, cluster.Lazy):
            if client.info("cluster").get("cluster_enabled"):
                raise IndexMisconfigured(_IS_CLUSTER)
            return
        lost = client.lost()
        if lost:
            nodes = ", ".join(f"{place} ({reason})" for place, reason in lost.items())
            raise IndexUnavailable(f"the index (Redis or Valkey) does not answer at {nodes}")


@contextmanager
def guarded(server: ServerKind = INDEX) -> Iterator[None]:
    """Turn what keeps the server from doing as it is asked into an `Unavailable` of this server.

    That a server takes no writes (full disk or memory, missing replicas, a replica after a failover) counts as much as
    that it does not answer: an operator can mend it while tasks wait. So does what no waiting mends, as a
    `Misconfigured`. Errors of the commands themselves (a wrong type) go through as they are.
    """
    try:
        yield
    except (redis.RedisError, RedisClusterException, OSError) as error:
        failure = server.failure(error)
        if failure is None:
            raise
        raise failure from error
