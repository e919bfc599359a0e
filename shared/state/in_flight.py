"""Jobs in flight: what each requester has handed in that is not done, so that nobody fills the queues alone."""

from dataclasses import dataclass
from typing import Final

from shared.state.connection import Client, guarded
from shared.state.job_list import KEPT_S
from shared.state.jobs import Jobs, Kind

_SEPARATOR: Final = " "


@dataclass(frozen=True)
class Load:
    """What a requester has in flight: jobs, images of uploads in them, and evaluations."""

    jobs: int = 0
    images: int = 0
    evaluations: int = 0


class InFlight:
    """Notes who handed a job in, and counts those that are not done."""

    def __init__(self, client: Client, jobs: Jobs) -> None:
        self._redis, self._jobs = client, jobs

    def note(self, requester: str, job: str, kind: Kind, images: int = 0) -> None:
        """Note a job, and how many images of an upload are in it."""
        key = _key(requester)
        with guarded():
            self._redis.hset(key, job, f"{kind}{_SEPARATOR}{images}")
            self._redis.expire(key, KEPT_S)

    def load(self, requester: str) -> Load:
        """Return what a requester has in flight, and forget what is done."""
        key = _key(requester)
        with guarded():
            noted = {job.decode(): value.decode() for job, value in self._redis.hgetall(key).items()}
        if not noted:
            return Load()
        unfinished = self._jobs.unfinished_ids()
        done = noted.keys() - unfinished
        if done:
            with guarded():
                self._redis.hdel(key, *done)
        parts = [noted[job].partition(_SEPARATOR) for job in noted.keys() & unfinished]
        return Load(
            jobs=len(parts),
            images=sum(int(images or 0) for _, _, images in parts),
            evaluations=sum(kind in {"evaluate", "duplicates"} for kind, _, _ in parts),
        )


def _key(requester: str) -> str:
    return f"in-flight:{requester}"
