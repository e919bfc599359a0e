"""Attempts at a task: which one is alive, what the last one was at when it died, and images that are set aside.

An attempt holds a lease on its task, which a thread of its process renews. The next attempt begins when the lease has
run out, or at once when it is known that the last one's process died. From then on the last one, should it only have
been stopped, is fenced off: `Attempt.check`, which it calls before it writes, raises.
"""

import logging
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from shared.errors import Fenced, Unavailable
from shared.state.connection import Client, guarded

LEASE_S = 15.0
"""How long the lease of an attempt lasts that is not renewed."""

_KEPT_S = 24 * 3600
_log = logging.getLogger(__name__)

# Times are those of the server, in milliseconds. Every script may run twice, since a lost answer is asked for again.
_BEGIN = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'token', 'until', 'delivery', 'at', 'begun', 'before', 'killed')
local token = held[1] or ''
if token == ARGV[1] then return {tonumber(held[5]), held[6], tonumber(held[7])} end
local killed = held[3] and held[3] ~= '' and held[3] == ARGV[4] and 1 or 0
if token ~= '' and killed == 0 and tonumber(held[2] or 0) > now then return {0, '', 0} end
redis.call('HDEL', KEYS[1], 'at')
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'until', now + ARGV[2], 'delivery', ARGV[3],
  'before', held[4] or '', 'killed', killed)
redis.call('EXPIRE', KEYS[1], ARGV[5])
return {redis.call('HINCRBY', KEYS[1], 'begun', 1), held[4] or '', killed}
"""
_IF_OWN = "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end "
_RENEW = (
    _IF_OWN + "local time = redis.call('TIME') "
    "redis.call('HSET', KEYS[1], 'until', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]) "
    "redis.call('EXPIRE', KEYS[1], ARGV[3]) return 1"
)
_NOTE = _IF_OWN + "redis.call('HSET', KEYS[1], 'at', ARGV[2]) return 1"
_CLEAR = _IF_OWN + "redis.call('HDEL', KEYS[1], 'at') return 1"
_PAUSE = _IF_OWN + "redis.call('HDEL', KEYS[1], 'at', 'token', 'until', 'begun') return 1"
_LEAVE = _IF_OWN + "redis.call('HDEL', KEYS[1], 'token', 'until') return 1"
_IS_ALIVE = """
local time = redis.call('TIME')
local held = redis.call('HMGET', KEYS[1], 'token', 'until')
if held[1] and tonumber(held[2] or 0) > time[1] * 1000 + math.floor(time[2] / 1000) then return 1 end
return 0
"""
_END = _IF_OWN + "redis.call('UNLINK', KEYS[1]) return 1"


class Attempt:
    """An attempt that is under way.

    Attributes:
        deaths: Attempts before this one that began and did not end in good order.
        died_at: The item at which the last of them died; None if it noted none.
        killed: Whether its process is known to have died of what it did. Otherwise its whole worker vanished, or was
            stopped: that says little about the item.
    """

    def __init__(
        self, client: Client, task: str, token: str, *, deaths: int, died_at: str | None, killed: bool
    ) -> None:
        self._redis, self._key, self._token = client, _key(task), token
        self._task = task
        self.deaths, self.died_at, self.killed = deaths, died_at, killed

    def check(self) -> None:
        """Make sure that no other attempt has begun since.

        Raises:
            Fenced: One has, or the record of the attempts was lost: this one must not write any more.
        """
        with guarded():
            held = self._redis.hget(self._key, "token")
        if held is None or held.decode() != self._token:
            raise self._fenced()

    def note_item(self, item: str) -> None:
        """Note the item that the attempt works on, so that the next attempt knows what stopped this one.

        Raises:
            Fenced: Another attempt has begun.
        """
        if not self._run(_NOTE, item):
            raise self._fenced()

    def clear_item(self) -> None:
        """Note that the attempt is done with the item.

        Raises:
            Fenced: Another attempt has begun.
        """
        if not self._run(_CLEAR):
            raise self._fenced()

    def strike(self, item: str) -> int:
        """Count that an item stopped its task; returns how often it did."""
        with guarded():
            return int(self._redis.hincrby(self._key, f"strikes:{item}", 1))

    def pause(self) -> None:
        """Note that the attempt ended in good order and the task will be tried again."""
        self._run(_PAUSE)

    def end(self) -> None:
        """Note that the task is done."""
        self._run(_END)

    def renew(self) -> bool:
        """Renew the lease; returns whether the attempt still has it."""
        return self._run(_RENEW, int(LEASE_S * 1000), _KEPT_S)

    def leave(self) -> None:
        """Give the lease up, without a word on how the attempt ended."""
        self._run(_LEAVE)

    def _run(self, script: str, *values: str | int) -> bool:
        with guarded():
            return bool(self._redis.eval(script, 1, self._key, self._token, *values))

    def _fenced(self) -> Fenced:
        return Fenced(f"another worker has begun the task {self._task!r} anew; this attempt ends without writing more")


class Attempts:
    """Counts the attempts at tasks, and the strikes against items that stopped their worker."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def begin(self, task: str, *, delivery: str = "", lost: str = "") -> Attempt:
        """Begin an attempt; nothing renews its lease.

        Args:
            task: Name of the task.
            delivery: Id of the message's delivery that this attempt is made for.
            lost: Id of an earlier delivery whose process is known to have died.

        Raises:
            Unavailable: Another attempt is alive.
        """
        token = secrets.token_hex(8)
        with guarded():
            begun, item, killed = self._redis.eval(
                _BEGIN, 1, _key(task), token, int(LEASE_S * 1000), delivery, lost, _KEPT_S
            )
        if not begun:
            raise Unavailable(f"another worker is at the task {task!r}")
        died_at = item.decode() or None
        return Attempt(self._redis, task, token, deaths=int(begun) - 1, died_at=died_at, killed=bool(killed))

    @contextmanager
    def hold(self, task: str, *, delivery: str = "", lost: str = "") -> Iterator[Attempt]:
        """Begin an attempt, as `begin` does, and renew its lease over the block.

        The block says by `end` or `pause` how the attempt ended; otherwise it counts as one that died.
        """
        attempt = self.begin(task, delivery=delivery, lost=lost)
        over = threading.Event()
        threading.Thread(target=_keep, args=(attempt, over), name="attempt", daemon=True).start()
        try:
            yield attempt
        finally:
            over.set()
            with suppress(Unavailable):  # then the lease runs out
                attempt.leave()

    def is_alive(self, task: str) -> bool:
        """Return whether an attempt at a task has a lease that has not run out."""
        with guarded():
            return bool(self._redis.eval(_IS_ALIVE, 1, _key(task)))

    def forget(self, task: str) -> None:
        """Forget the attempts at a task."""
        with guarded():
            self._redis.unlink(_key(task))

    def set_aside(self, version: str, digest: str) -> None:
        """Note that this version of the program must not touch the image with this digest again."""
        with guarded():
            self._redis.sadd(f"set-aside:{version}", digest)

    def are_set_aside(self, version: str, digests: Sequence[str]) -> list[bool]:
        """Return for each digest whether this version of the program set the image aside."""
        if not digests:
            return []
        with guarded():
            return [bool(flag) for flag in self._redis.smismember(f"set-aside:{version}", list(digests))]


def _keep(attempt: Attempt, over: threading.Event) -> None:
    """Renew an attempt's lease until it is over."""
    while not over.wait(LEASE_S / 3):
        try:
            if not attempt.renew():
                return
        except Unavailable as error:
            _log.debug("the lease of an attempt could not be renewed: %s", error)


def _key(task: str) -> str:
    return f"attempt:{task}"
