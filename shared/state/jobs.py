"""Jobs: what became of the images that were handed in together.

Each batch of a job reports its outcome under its own number, so that a batch which runs twice counts once.
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import IndexLost, Invalid, NotFound
from shared.state.connection import Client, guarded

Kind = Literal["ingest", "delete", "drop", "maintain", "rebuild", "compact", "tune", "change-model", "evaluate"]

CANCELLABLE: frozenset[Kind] = frozenset({"evaluate", "change-model"})

RECORD_LOST = "the job's record was lost with the index; run the command again: what was added counts as duplicate"

NOT_SERVED = "not-served"
"""Code of the rejection that ends a change of model whose model is not served: nothing was changed."""
REFUSED = "refused"
"""Code of the rejection that ends a change of model which cannot be made: nothing was changed."""
CANCELLED = "cancelled"
"""Code of the rejection that ends a job which was cancelled: nothing was changed."""

_KEPT_S = 7 * 24 * 3600
_TICKS = 0x1000  # of a job's id in a second: three hexadecimal digits
_TALLY = "tally"
# One step: a record that is lost between a look and a write would come back as half of one, and never expire.
_UPDATE = "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end redis.call('HSET', KEYS[1], unpack(ARGV)) return 1"


@dataclass(frozen=True)
class Rejection:
    """An image that was not taken: its name, a short code, and a sentence that says why and what helps."""

    name: str
    code: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What became of one batch."""

    added: dict[str, int] = field(default_factory=dict)  # label ("" for none) to number of images
    duplicates: int = 0
    rejected: tuple[Rejection, ...] = ()
    affected: int = 0  # images that a job of another kind removed or restored

    @property
    def images(self) -> int:
        """Number of images accounted for."""
        return sum(self.added.values()) + self.duplicates + len(self.rejected)

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        rejected = [[item.name, item.code, item.reason] for item in self.rejected]
        return {"added": self.added, "duplicates": self.duplicates, "rejected": rejected, "affected": self.affected}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Outcome":
        """Return the outcome that `to_json` wrote."""
        rejected = tuple(Rejection(*item) for item in value["rejected"])
        return cls(value["added"], value["duplicates"], rejected, value["affected"])


@dataclass(frozen=True)
class Job:
    """A job as it stands: `total` images are known so far, and all of them once `closed`.

    For an evaluation, `total` and `steps` count the searches to make and those made; for a change of model, the images
    to embed and those embedded. `cancelled`: the job is to end before it is done.
    """

    id: str
    kind: Kind
    collection: str
    created: float
    closed: bool
    total: int
    batches: int
    reported: frozenset[int]
    outcome: Outcome
    steps: int = 0
    cancelled: bool = False

    @property
    def done(self) -> bool:
        """Whether every image is accounted for."""
        return self.closed and len(self.reported) >= self.batches

    @property
    def added(self) -> int:
        """Number of images added."""
        return sum(self.outcome.added.values())


@dataclass(frozen=True)
class Tally:
    """Images by what became of them, whatever job they were of; `rejected` by code."""

    added: int
    duplicates: int
    rejected: dict[str, int]


def new_job_id() -> str:
    """Return an id for a job: sortable by time to a quarter of a millisecond, unguessable."""
    return f"{time.time_ns() * _TICKS // 10**9:011x}{secrets.token_hex(6)}"


class Jobs:
    """Creates jobs, takes reports, sums them up."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def create(self, job: str, collection: str, *, kind: Kind = "ingest") -> None:
        """Begin a job. One of another kind than ``ingest`` has a single batch, number 0."""
        fields: dict[str, str | int] = {"collection": collection, "kind": kind, "created": repr(time.time())}
        if kind != "ingest":
            fields |= {"batches": 1, "closed": 1}
        with guarded():
            self._redis.hset(f"job:{job}", mapping=fields)
            self._redis.expire(f"job:{job}", _KEPT_S)

    def extend(self, job: str, *, batches: int, total: int, closed: bool) -> None:
        """Note how many batches and images the job has by now, and whether that is all.

        Raises:
            IndexLost: The job's record is gone, and what was reported with it.
        """
        if not self._update(job, {"batches": batches, "total": total, "closed": int(closed)}):
            raise IndexLost(RECORD_LOST)

    def advance(self, job: str, *, steps: int, total: int) -> None:
        """Note how far a job has come, where it counts steps instead of images; nothing if its record is gone."""
        self._update(job, {"steps": steps, "total": total})

    def _update(self, job: str, fields: dict[str, int]) -> bool:
        """Write fields of a job's record if there is one; returns whether there is."""
        with guarded():
            words = [word for pair in fields.items() for word in pair]
            return bool(self._redis.eval(_UPDATE, 1, f"job:{job}", *words))

    def cancel(self, job: str) -> None:
        """Ask a job to end before it is done; it does so at its next step, and leaves nothing behind.

        Raises:
            NotFound: There is no such job.
            Invalid: It is of a kind that cannot be cancelled.
        """
        found = self.get(job)
        if found.kind not in CANCELLABLE:
            raise Invalid(f"the job {job} is of the kind {found.kind!r}, which cannot be cancelled: it goes on")
        if not found.done and not self._update(job, {"cancelled": 1}):
            raise _unknown(job)

    def cancelled(self, job: str) -> bool:
        """Return whether somebody asked a job to end."""
        with guarded():
            return bool(self._redis.hexists(f"job:{job}", "cancelled"))

    def report(self, job: str, batch: int, outcome: Outcome) -> bool:
        """Write a batch's outcome unless it has one; returns whether the job is done by now."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hsetnx(f"job:{job}:batches", str(batch), json.dumps(outcome.to_json(), separators=(",", ":")))
            pipeline.expire(f"job:{job}:batches", _KEPT_S)
            pipeline.hlen(f"job:{job}:batches")
            pipeline.hmget(f"job:{job}", ["closed", "batches"])
            fresh, *_, reported, (closed, batches) = pipeline.execute()
        if fresh:
            self._count(outcome)
        return bool(int(closed or 0)) and int(reported) >= int(batches or 0)

    def _count(self, outcome: Outcome) -> None:
        """Add an outcome to the tally; what is lost by dying here only makes a rate a little lower."""
        counts = Counter(f"rejected {rejection.code}" for rejection in outcome.rejected)
        counts.update(added=sum(outcome.added.values()), duplicate=outcome.duplicates)
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for what, count in counts.items():
                if count:
                    pipeline.hincrby(_TALLY, what, count)
            pipeline.execute()

    def tally(self) -> Tally:
        """Return how many images all jobs together have accounted for since the index was empty."""
        with guarded():
            found = {what.decode(): int(count) for what, count in self._redis.hgetall(_TALLY).items()}
        return Tally(
            added=found.get("added", 0),
            duplicates=found.get("duplicate", 0),
            rejected={what.partition(" ")[2]: count for what, count in found.items() if what.startswith("rejected ")},
        )

    def set_result(self, job: str, result: Mapping[str, Any]) -> None:
        """Write what a job found out, before it reports."""
        with guarded():
            self._redis.set(f"job:{job}:result", json.dumps(result), ex=_KEPT_S)

    def forget(self, job: str) -> None:
        """Forget a job."""
        with guarded():
            for key in (f"job:{job}", f"job:{job}:batches", f"job:{job}:result"):
                self._redis.unlink(key)

    def result(self, job: str) -> dict[str, Any] | None:
        """Return what a job found out; None if that is nothing."""
        with guarded():
            found = self._redis.get(f"job:{job}:result")
        return dict(json.loads(found)) if found else None

    def reported(self, job: str, batch: int) -> bool:
        """Return whether a batch has an outcome."""
        with guarded():
            return bool(self._redis.hexists(f"job:{job}:batches", str(batch)))

    def progress(self, job: str) -> set[int] | None:
        """Return the numbers of the batches that have an outcome; None if the job is unknown."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.exists(f"job:{job}")
            pipeline.hkeys(f"job:{job}:batches")
            known, batches = pipeline.execute()
        return {int(batch) for batch in batches} if known else None

    def get(self, job: str) -> Job:
        """Return a job as it stands.

        Raises:
            NotFound: There is no such job, or it is older than a week.
        """
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hgetall(f"job:{job}")
            pipeline.hgetall(f"job:{job}:batches")
            fields, reports = pipeline.execute()
        if not fields:
            raise _unknown(job)
        return Job(
            id=job,
            kind=fields[b"kind"].decode(),
            collection=fields[b"collection"].decode(),
            created=float(fields[b"created"]),
            closed=bool(int(fields.get(b"closed", 0))),
            total=int(fields.get(b"total", 0)),
            batches=int(fields.get(b"batches", 0)),
            reported=frozenset(int(batch) for batch in reports),
            steps=int(fields.get(b"steps", 0)),
            cancelled=b"cancelled" in fields,
            outcome=_sum([Outcome.from_json(json.loads(report)) for _, report in sorted(reports.items())]),
        )


def _unknown(job: str) -> NotFound:
    return NotFound(f"there is no job {job[:80]!r}; jobs are kept for a week")


def _sum(outcomes: Sequence[Outcome]) -> Outcome:
    added: Counter[str] = Counter()
    for outcome in outcomes:
        added.update(outcome.added)
    rejected = tuple(rejection for outcome in outcomes for rejection in outcome.rejected)
    return Outcome(
        added=dict(sorted(added.items())),
        duplicates=sum(outcome.duplicates for outcome in outcomes),
        rejected=rejected,
        affected=sum(outcome.affected for outcome in outcomes),
    )
