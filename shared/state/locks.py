"""Locks that free themselves when their holder dies, and requests that are not made twice within a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from redis.exceptions import LockError
from redis.lock import Lock as RedisLock

from shared.errors import IndexUnavailable, Locked, Unavailable
from shared.state.connection import Client, guarded

LEASE_S = 15.0
"""How long the lock of a worker that died stays held."""


@dataclass(frozen=True)
class Lock:
    """A lock by its name; `taken` says what goes on while another worker holds it."""

    name: str
    taken: str


def segments_lock(collection: str) -> Lock:
    """Return the lock of workers that read or rewrite all segments of a collection."""
    return Lock(f"segments:{collection}", f"another worker is at the segments of {collection!r}")


def claims_lock(collection: str) -> Lock:
    """Return the lock of workers that move or remove claims of a collection.

    They are a deletion, a purge, a change of labels, a rename, the end of a merge and the end of a change of model.
    """
    return Lock(f"claims:{collection}", f"images of {collection!r} are just being deleted, merged or moved")


def creation_lock(collection: str) -> Lock:
    """Return the lock of workers that create a collection."""
    return Lock(f"create:{collection}", f"another worker is creating the collection {collection!r}")


def regions_lock(collection: str) -> Lock:
    """Return the lock of the worker that has the windows of a collection's images embedded."""
    return Lock(f"regions:{collection}", f"another worker is at the regions of {collection!r}")


def evaluation_lock(evaluation: str) -> Lock:
    """Return the lock of the worker that makes an evaluation."""
    return Lock(f"evaluate:{evaluation}", f"another worker is at the evaluation {evaluation}")


def link_lock(digest: str) -> Lock:
    """Return the lock of whoever reads the link of an original and writes it with other paths."""
    return Lock(f"link:{digest}", f"another process is writing the link of the original {digest}; try again")


QUERY_SETS_LOCK = Lock("query-sets", "query sets are being sent by another process; try again later")


class Locks:
    """Takes locks."""

    def __init__(self, client: Client) -> None:
        self._redis = client
        self._held: dict[str, RedisLock] = {}

    def is_held(self, lock: Lock) -> bool:
        """Return whether a worker holds a lock."""
        with guarded():
            return bool(self._redis.exists(f"lock:{lock.name}"))

    @contextmanager
    def hold(self, lock: Lock, *, wait_s: float = 0.0) -> Iterator[None]:
        """Hold a lock over the block. It frees itself `LEASE_S` seconds after its holder died, or was stopped.

        A holder that was stopped for longer has lost it: `check` tells it so.

        Raises:
            Locked: Another worker has held it for all of `wait_s`; or the block failed after the lock was lost.
        """
        with guarded():
            held = self._redis.lock(
                f"lock:{lock.name}", timeout=LEASE_S, blocking=wait_s > 0, blocking_timeout=wait_s, thread_local=False
            )
            if not held.acquire():
                raise Locked(lock.taken)
        self._held[lock.name] = held
        ended = threading.Event()
        threading.Thread(target=_renew, args=(held, LEASE_S / 3, ended), name="lock", daemon=True).start()
        try:
            yield
        except Unavailable:
            raise
        except Exception as error:  # it may come of what the next holder has done, and says nothing of the task
            with guarded():
                owned = held.owned()
            if not owned:
                raise _lost(lock) from error
            raise
        finally:
            ended.set()
            if self._held.get(lock.name) is held:
                del self._held[lock.name]
            with guarded(), suppress(LockError):  # the lease ran out before the work was done
                held.release()

    def check(self, lock: Lock) -> None:
        """Make sure that a lock, which a block of this process holds, was not lost meanwhile.

        Whoever holds a lock calls this before each step that another holder would not survive.

        Raises:
            Locked: It was lost.
        """
        held = self._held.get(lock.name)
        if held is None:
            raise RuntimeError(f"the lock {lock.name!r} is checked by code that does not hold it")
        with guarded():
            owned = held.owned()
        if not owned:
            raise _lost(lock)

    def once(self, request: str, *, seconds: float) -> bool:
        """Return whether this request was not made by any process within so many seconds."""
        with guarded():
            return bool(self._redis.set(f"once:{request}", b"", nx=True, px=int(seconds * 1000)))


def _lost(lock: Lock) -> Locked:
    return Locked(f"this worker was held up for so long that it lost its lock: {lock.taken}")


def _renew(lock: RedisLock, every_s: float, ended: threading.Event) -> None:
    """Keep a lock from running out until `ended`."""
    while not ended.wait(every_s):
        with suppress(IndexUnavailable, LockError), guarded():
            lock.reacquire()
