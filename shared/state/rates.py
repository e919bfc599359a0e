"""Rates: how often somebody may do something, counted over all web processes, and in each of them without Redis.

The generic cell rate algorithm keeps one time a requester and rate: when it will have been idle long enough to have
made up for what it did. Whoever is at most a burst ahead of that goes on.
"""

import threading
import time
from dataclasses import dataclass
from typing import Final

from shared.errors import IndexUnavailable
from shared.state.connection import Client, guarded

_KEPT_IN_MEMORY: Final = 10_000  # requesters; beyond, those without a debt are forgotten
_TAKE: Final = """
local moment = redis.call('TIME')
local now = moment[1] + moment[2] / 1000000
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local wait = due + tonumber(ARGV[1]) - now - tonumber(ARGV[2])
if wait > 0 then return string.format('%.6f', wait) end
due = due + tonumber(ARGV[1])
redis.call('SET', KEYS[1], string.format('%.6f', due), 'PX', math.ceil((due - now) * 1000))
return '0'
"""


@dataclass(frozen=True)
class Rate:
    """So many times a minute, of which half may come at once."""

    name: str
    per_minute: int

    @property
    def interval_s(self) -> float:
        """Seconds from one time to the next."""
        return 60 / self.per_minute

    @property
    def burst_s(self) -> float:
        """Seconds by which a requester may be ahead."""
        return max(self.per_minute // 2 - 1, 0) * self.interval_s


@dataclass(frozen=True)
class Allowance:
    """So many of something within some seconds, of which half may come at once."""

    name: str
    most: int
    seconds: float

    @property
    def interval_s(self) -> float:
        """Seconds from one to the next."""
        return 2 * self.seconds / self.most

    @property
    def burst_s(self) -> float:
        """Seconds by which a requester may be ahead."""
        return max(self.seconds - self.interval_s, 0.0)


class Rates:
    """Counts what requesters do."""

    def __init__(self, client: Client) -> None:
        self._redis = client
        self._due: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, rate: Rate | Allowance, requester: str, count: int = 1) -> float:
        """Count some times for a requester; returns 0.0, or the seconds to wait, and then nothing is counted."""
        key = f"rate:{rate.name}:{requester}"
        cost_s, most_s = count * rate.interval_s, rate.burst_s + rate.interval_s
        try:
            with guarded():
                return float(self._redis.eval(_TAKE, 1, key, cost_s, most_s))
        except IndexUnavailable:
            return self._take_in_memory(key, cost_s, most_s)

    def _take_in_memory(self, key: str, cost_s: float, most_s: float) -> float:
        now = time.monotonic()
        with self._lock:
            if len(self._due) > _KEPT_IN_MEMORY:
                self._due = {other: due for other, due in self._due.items() if due > now}
            due = max(self._due.get(key, now), now) + cost_s
            wait = due - now - most_s
            if wait <= 0:
                self._due[key] = due
        return max(wait, 0.0)
