"""The list of all jobs by their creation, and the set of those that may not have ended: both are bounded.

A job is listed for a week after its last sign of life. Of more than `MOST_JOBS`, the oldest that have ended are
forgotten first. `jobs:unfinished` holds what the sweeper of the maintenance worker has to look at; it takes out
what has ended.
"""

import time
from collections.abc import Collection, Iterator, Sequence, Set
from dataclasses import dataclass

from shared.state.connection import Client, guarded

MOST_JOBS = 10_000
KEPT_S = 7 * 24 * 3600

_ALL = "jobs"
_UNFINISHED = "jobs:unfinished"
_OLDEST = 32  # that are looked at when a job is created, to be forgotten
_PIECE = 500  # jobs whose heads are read at a time
_FIELDS = ("kind", "collection", "closed", "batches", "cancelled")


@dataclass(frozen=True)
class JobHead:
    """What a list is filtered by: a job without what became of its images."""

    id: str
    kind: str
    collection: str
    state: str


def job_state(*, closed: bool, batches: int, reported: int, cancelled: bool) -> str:
    """Return ``open``, ``running``, ``done`` or ``cancelled``."""
    if not closed:
        return "open"
    if reported < batches:
        return "running"
    return "cancelled" if cancelled else "done"


class JobList:
    """Lists jobs; `most` bounds their number."""

    def __init__(self, client: Client, *, most: int = MOST_JOBS) -> None:
        self._redis, self._most = client, most

    def add(self, job: str) -> list[str]:
        """List a job that was just created; returns old ones that are to be forgotten."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zadd(_ALL, {job: time.time()})
            pipeline.sadd(_UNFINISHED, job)
            pipeline.zcard(_ALL)
            pipeline.zrange(_ALL, 0, _OLDEST - 1, withscores=True)
            *_, count, oldest = pipeline.execute()
        too_old = time.time() - KEPT_S
        excess = count - self._most
        due = [name.decode() for rank, (name, at) in enumerate(oldest) if rank < excess or at < too_old]
        known = {head.id: head.state for head in self._heads(due)}
        return [old for old in due if known.get(old) not in {"open", "running"}]

    def remove(self, job: str) -> None:
        """Take a job off the list."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zrem(_ALL, job)
            pipeline.srem(_UNFINISHED, job)
            pipeline.execute()

    def unfinished(self) -> list[str]:
        """Return the jobs that may not have ended, oldest first."""
        with guarded():
            return sorted(job.decode() for job in self._redis.smembers(_UNFINISHED))

    def note_end(self, job: str) -> None:
        """Note that a job has ended."""
        with guarded():
            self._redis.srem(_UNFINISHED, job)

    def page(
        self,
        *,
        collection: str = "",
        kind: str = "",
        states: Collection[str] = (),
        within: Set[str] | None = None,
        offset: int,
        limit: int,
    ) -> tuple[list[str], int]:
        """Return a part of the jobs, newest first, and how many there are in all; empty filters mean any."""
        if within is None and not (collection or kind or states):
            with guarded():
                pipeline = self._redis.pipeline(transaction=False)
                pipeline.zrevrange(_ALL, offset, offset + limit - 1)
                pipeline.zcard(_ALL)
                found, total = pipeline.execute()
            return [job.decode() for job in found], int(total)
        matching = [
            head.id
            for head in self._all_heads()
            if collection in {"", head.collection}
            and kind in {"", head.kind}
            and (not states or head.state in states)
            and (within is None or head.collection in within)
        ]
        return matching[offset : offset + limit], len(matching)

    def _all_heads(self) -> Iterator[JobHead]:
        with guarded():
            jobs = [job.decode() for job in self._redis.zrevrange(_ALL, 0, -1)]
        for start in range(0, len(jobs), _PIECE):
            yield from self._heads(jobs[start : start + _PIECE])

    def _heads(self, jobs: Sequence[str]) -> list[JobHead]:
        """Return the heads of the jobs that have a record."""
        if not jobs:
            return []
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for job in jobs:
                pipeline.hmget(f"job:{job}", _FIELDS)
                pipeline.hlen(f"job:{job}:batches")
                pipeline.hlen(f"job:{job}:pages")
            answers = pipeline.execute()
        heads = []
        for place, job in enumerate(jobs):
            (kind, collection, closed, batches, cancelled), reported, pages = answers[3 * place : 3 * place + 3]
            if kind is not None:
                state = job_state(
                    closed=bool(int(closed or 0)),
                    batches=int(batches or 0) + int(pages),
                    reported=int(reported),
                    cancelled=cancelled is not None,
                )
                heads.append(JobHead(job, kind.decode(), collection.decode(), state))
        return heads
