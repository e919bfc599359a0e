"""The connection to Redis or Valkey, and what its failures are called here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from shared.errors import IndexUnavailable

# redis-py declares the replies of every protocol and mode at once, which fits no code that uses one of them.
Client = Any


def connect(url: str, *, timeout_s: float = 5.0, retries: int = 4) -> Client:
    """Return a client for the server at `url`; nothing is sent yet.

    A lost connection is tried again `retries` times, by default for about a second, which a restarting server takes.
    Every command sent through it may therefore run twice, so callers send only commands that may.
    """
    return redis.Redis.from_url(
        url,
        protocol=2,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError],
    )


@contextmanager
def guarded() -> Iterator[None]:
    """Turn a failure to reach the server into `IndexUnavailable`.

    Errors of the commands themselves (a wrong type, a full memory) go through as they are: OutOfMemory and read-only
    servers count as unavailable, since an operator can mend them while tasks wait.
    """
    try:
        yield
    except redis.AuthenticationError as error:  # also a ConnectionError
        raise IndexUnavailable(
            f"the index (Redis or Valkey) refuses the connection: {error}; check the password in its URL"
        ) from error
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, OSError) as error:
        raise IndexUnavailable(f"the index (Redis or Valkey) does not answer: {error}") from error
    except (redis.ReadOnlyError, redis.OutOfMemoryError) as error:
        raise IndexUnavailable(f"the index (Redis or Valkey) takes no writes: {error}") from error
