"""The connection to Redis or Valkey, a single server or a cluster, and its failures as our errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import AskError, ClusterError, SlotNotCoveredError, TryAgainError
from redis.retry import Retry

from shared.errors import IndexUnavailable
from shared.state import cluster

# redis-py declares the replies of every protocol and mode at once, which fits no code that uses one of them.
Client = Any

_IS_CLUSTER = "the index (Redis or Valkey) runs as a cluster: begin its URL, ARTSEEK_INDEX_URL, with redis+cluster://"
_IS_SINGLE = "the index (Redis or Valkey) runs as a single server: begin its URL, ARTSEEK_INDEX_URL, with redis://"


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
        retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError],
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
                raise IndexUnavailable(_IS_CLUSTER)
            return
        lost = client.lost()
        if lost:
            nodes = ", ".join(f"{place} ({reason})" for place, reason in lost.items())
            raise IndexUnavailable(f"the index (Redis or Valkey) does not answer at {nodes}")


@contextmanager
def guarded() -> Iterator[None]:
    """Turn a failure to reach the server into `IndexUnavailable`.

    Errors of the commands themselves (a wrong type) go through as they are: OutOfMemory and read-only servers count as
    unavailable, since an operator can mend them while tasks wait, and so does the wrong kind of server.
    """
    try:
        yield
    except redis.AuthenticationError as error:  # also a ConnectionError
        raise IndexUnavailable(
            f"the index (Redis or Valkey) refuses the connection: {error}; check the password in its URL"
        ) from error
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, OSError) as error:
        raise IndexUnavailable(f"the index (Redis or Valkey) does not answer: {_describe(error)}") from error
    except (ClusterError, SlotNotCoveredError, TryAgainError) as error:
        raise IndexUnavailable(
            f"the index (Redis or Valkey) does not answer for all keys: {_describe(error)}; "
            "a node of its cluster is lost or still starting (a cluster's URL begins with redis+cluster://)"
        ) from error
    except AskError as error:  # also a MovedError: a client for a cluster follows it
        raise IndexUnavailable(_IS_CLUSTER) from error
    except (redis.ReadOnlyError, redis.OutOfMemoryError) as error:
        raise IndexUnavailable(f"the index (Redis or Valkey) takes no writes: {_describe(error)}") from error
    except redis.ResponseError as error:
        if "cluster support disabled" in str(error):
            raise IndexUnavailable(_IS_SINGLE) from error
        raise


def _describe(error: Exception) -> str:
    place, text = cluster.place_of(error), str(error)
    return f"{place}: {text}" if place and place not in text else text
