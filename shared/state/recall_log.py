"""The recall of live searches, hour by hour: the query service measures it on a share of them, the pages show it.

recall:<collection>:<day>: hash of "<hour>:<writer>" → "<sampled> <sum of recalls> <dropped>", both since 1970.
Each writer writes its own totals of an hour as a whole, so that a write which runs twice counts once.
"""

import secrets
import time
from collections import defaultdict
from dataclasses import dataclass

from shared.state.connection import Client, guarded

KEPT_DAYS = 90
HOUR_S = 3600
_DAY_HOURS = 24


@dataclass(frozen=True)
class HourOfRecall:
    """What was measured in an hour, which is counted since 1970, in UTC.

    Attributes:
        sampled: Searches that were run again exactly.
        total: The sum of their recalls.
        dropped: Searches that were to be, but came while too many waited.
    """

    hour: int
    sampled: int = 0
    total: float = 0.0
    dropped: int = 0

    @property
    def recall(self) -> float | None:
        """The mean recall; None if nothing was sampled."""
        return self.total / self.sampled if self.sampled else None


def hour_of(seconds: float) -> int:
    """Return the hour, counted since 1970, of a time in seconds since then."""
    return int(seconds // HOUR_S)


class RecallLog:
    """Keeps the hours of the last `KEPT_DAYS` days; older ones expire."""

    def __init__(self, client: Client) -> None:
        self._redis = client
        self._writer = secrets.token_hex(4)

    def write(self, collection: str, hour: HourOfRecall) -> None:
        """Write this writer's totals of an hour, in place of those that it wrote before.

        Raises:
            IndexUnavailable: The server does not answer.
        """
        key = _key(collection, hour.hour // _DAY_HOURS)
        value = f"{hour.sampled} {hour.total!r} {hour.dropped}"
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hset(key, f"{hour.hour}:{self._writer}", value)
            pipeline.expire(key, (KEPT_DAYS + 1) * _DAY_HOURS * HOUR_S)
            pipeline.execute()

    def move(self, collection: str, new: str) -> None:
        """Have the hours of a collection under its new name.

        Raises:
            IndexUnavailable: The server does not answer.
        """
        last = hour_of(time.time()) // _DAY_HOURS
        for day in range(last - KEPT_DAYS - 1, last + 1):
            with guarded():
                found = self._redis.hgetall(_key(collection, day))
                if found:
                    self._redis.hset(_key(new, day), mapping=found)
                    self._redis.expire(_key(new, day), (KEPT_DAYS + 1) * _DAY_HOURS * HOUR_S)
                    self._redis.unlink(_key(collection, day))

    def read(self, collection: str, *, days: int) -> list[HourOfRecall]:
        """Return the hours of the last `days` days with something in them, the oldest first, all writers together.

        Raises:
            IndexUnavailable: The server does not answer.
        """
        last = hour_of(time.time())
        first = last - days * _DAY_HOURS + 1
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for day in range(first // _DAY_HOURS, last // _DAY_HOURS + 1):
                pipeline.hgetall(_key(collection, day))
            found = pipeline.execute()
        sums: defaultdict[int, tuple[int, float, int]] = defaultdict(lambda: (0, 0.0, 0))
        for fields in found:
            for name, value in fields.items():
                hour = int(name.split(b":")[0])
                if first <= hour <= last:
                    sampled, total, dropped = value.split()
                    before = sums[hour]
                    sums[hour] = before[0] + int(sampled), before[1] + float(total), before[2] + int(dropped)
        return [HourOfRecall(hour, *sums[hour]) for hour in sorted(sums)]


def _key(collection: str, day: int) -> str:
    return f"recall:{collection}:{day}"
