"""Jobs: what became of the images that were handed in together.

Each batch of a job reports its outcome under its own number, so that a batch which runs twice counts once. A job may
have hundreds of thousands of batches: whoever follows it reads sums, which are written with each report.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, cast

from shared.errors import IndexLost, Invalid, NotFound
from shared.state import job_record
from shared.state.connection import Client, guarded
from shared.state.job_entries import (
    batch_sums,
    batches_key,
    counts_of,
    outcome_entry,
    page_sums,
    pages_entry,
    pages_key,
    pages_of,
    read_outcome,
)
from shared.state.job_list import KEPT_S, MOST_JOBS, JobList, job_state
from shared.state.outcomes import Counts, Outcome, total_of
from shared.state.pieces import hash_pieces, pieces
from shared.state.running_sums import Sums
from shared.state.sent_messages import SentMessages
from shared.state.tally import add_to_tally

Kind = Literal[
    "ingest",
    "delete",
    "restore",
    "drop",
    "rename",
    "maintain",
    "rebuild",
    "compact",
    "tune",
    "change-model",
    "regions",
    "evaluate",
    "duplicates",
    "map",
]

State = Literal["open", "running", "done", "cancelled"]

CANCELLABLE: frozenset[Kind] = frozenset({"ingest", "evaluate", "duplicates", "change-model", "map"})

RECORD_LOST = "the job's record was lost with the index; run the command again: what was added counts as duplicate"


@dataclass(frozen=True)
class Job:
    """A job as it stands: `total` images are known so far, and all of them once `closed`.

    For an evaluation, `total` and `steps` count the searches to make and those made; for a change of model, the images
    to embed and those embedded; for regions, the images that are to have windows and those that have them. `cancelled`:
    the job is to end before it is done. `page_batches` of its batches were found behind the first pages of documents,
    and `reported` of all have reported. `counts` is what these brought; `Jobs.outcome` names what was not taken.
    """

    id: str
    kind: Kind
    collection: str
    created: float
    closed: bool
    total: int
    batches: int
    reported: int
    counts: Counts
    steps: int = 0
    cancelled: bool = False
    page_batches: int = 0

    @property
    def expected(self) -> int:
        """How many batches are to report."""
        return self.batches + self.page_batches

    @property
    def state(self) -> State:
        """Whether more may come, it is worked on, it is done, or it was cancelled and has ended."""
        found = job_state(closed=self.closed, batches=self.expected, reported=self.reported, cancelled=self.cancelled)
        return cast("State", found)

    @property
    def done(self) -> bool:
        """Whether every image is accounted for."""
        return self.closed and self.reported >= self.expected

    @property
    def added(self) -> int:
        """Number of images added."""
        return self.counts.added


class Jobs:
    """Creates jobs, takes reports, sums them up. At most about `most` jobs are kept."""

    def __init__(self, client: Client, *, most: int = MOST_JOBS) -> None:
        self._redis = client
        self._list = JobList(client, most=most)
        self._batches, self._pages = batch_sums(client), page_sums(client)
        self.sent = SentMessages(client)

    def create(self, job: str, collection: str, *, kind: Kind = "ingest", listed: bool = True) -> None:
        """Begin a job. One of another kind than ``ingest`` has a single batch, number 0.

        One that is not `listed` is a part of another job, which sees to its end.
        """
        fields: dict[str, str | int] = {"collection": collection, "kind": kind, "created": repr(time.time())}
        if kind != "ingest":
            fields |= {"batches": 1, "closed": 1}
        with guarded():
            self._redis.hset(f"job:{job}", mapping=fields)
            self._redis.expire(f"job:{job}", KEPT_S)
        if listed:
            for old in self._list.add(job):
                self.forget(old)

    def extend(self, job: str, *, batches: int, total: int, closed: bool) -> None:
        """Note how many batches and images the job has by now, and whether that is all.

        Raises:
            IndexLost: The job's record is gone, and what was reported with it.
        """
        if not self._update(job, {"batches": batches, "total": total, "closed": int(closed)}):
            raise IndexLost(RECORD_LOST)

    def add_pages(self, job: str, batch: int, pages: int) -> None:
        """Note a batch of pages of a document that an embedder has found; doing so twice counts once."""
        with guarded():
            self._pages.add(self._redis, pages_key(job), pages_entry(batch, pages))

    def advance(self, job: str, *, steps: int, total: int) -> None:
        """Note how far a job has come, where it counts steps instead of images; nothing if its record is gone."""
        self._update(job, {"steps": steps, "total": total})

    def note_once(self, job: str, name: str, number: int) -> int:
        """Note a number of a job before what it counts is gone, for an attempt that comes later.

        Returns:
            The number that was noted first, by this attempt or an earlier one.
        """
        with guarded():
            return job_record.note_once(self._redis, job, name, number)

    def _update(self, job: str, fields: dict[str, int]) -> bool:
        """Write fields of a job's record if there is one; returns whether there is."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            job_record.update(pipeline, job, fields)
            self._renew(job, pipeline)
            return bool(pipeline.execute()[0])

    def _renew(self, job: str, pipeline: Client) -> None:
        """Have a pipeline keep all that is known of a job: if a part of it went first, the job would look done."""
        pipeline.expire(f"job:{job}", KEPT_S)
        self._batches.renew(pipeline, batches_key(job))
        self._pages.renew(pipeline, pages_key(job))
        self.sent.renew(job, pipeline)

    def cancel(self, job: str) -> None:
        """Ask a job to end before it is done; it does so at its next step.

        Images that were added stay; of other kinds of work, nothing does.

        Raises:
            NotFound: There is no such job.
            Invalid: It is of a kind that cannot be cancelled.
        """
        found = self.get(job)
        if found.kind not in CANCELLABLE:
            raise Invalid(f"the job {job} is of the kind {found.kind!r}, which cannot be cancelled: it goes on")
        if not found.done and not self._update(job, {"cancelled": 1}):
            raise unknown_job(job)

    def cancelled(self, job: str) -> bool:
        """Return whether somebody asked a job to end."""
        with guarded():
            return bool(self._redis.hexists(f"job:{job}", "cancelled"))

    def report(self, job: str, batch: int, outcome: Outcome) -> bool:
        """Write a batch's outcome, and count it, unless it has one; returns whether the job is done by now."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            self._batches.add(pipeline, batches_key(job), outcome_entry(batch, outcome))
            pipeline.hlen(batches_key(job))
            pipeline.hmget(f"job:{job}", ["closed", "batches"])
            pipeline.hlen(pages_key(job))
            self.sent.forget(job, batch, pipeline)
            add_to_tally(pipeline, outcome)
            self._renew(job, pipeline)
            fresh, reported, (closed, batches), pages, *_ = pipeline.execute()
            if not fresh:
                pipeline = self._redis.pipeline(transaction=False)
                add_to_tally(pipeline, outcome, times=-1)
                pipeline.execute()
        done = bool(int(closed or 0)) and int(reported) >= int(batches or 0) + int(pages)
        if done:
            self._list.note_end(job)
        return done

    def set_result(self, job: str, result: Mapping[str, Any]) -> None:
        """Write what a job found out, before it reports."""
        with guarded():
            self._redis.set(f"job:{job}:result", json.dumps(result), ex=KEPT_S)

    def forget(self, job: str) -> None:
        """Forget a job."""
        self._list.remove(job)
        self.sent.forget_all(job)
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.unlink(f"job:{job}")
            self._batches.forget(pipeline, batches_key(job))
            self._pages.forget(pipeline, pages_key(job))
            pipeline.unlink(f"job:{job}:result")
            pipeline.execute()

    def result(self, job: str) -> dict[str, Any] | None:
        """Return what a job found out; None if that is nothing."""
        with guarded():
            found = self._redis.get(f"job:{job}:result")
        return dict(json.loads(found)) if found else None

    def page(
        self,
        *,
        collection: str = "",
        kind: str = "",
        states: Sequence[str] = (),
        within: Set[str] | None = None,
        offset: int = 0,
        limit: int = 50,
    ) -> tuple[list[Job], int]:
        """Return a part of the jobs, newest first, and how many there are in all; empty filters mean any.

        With `within`, only jobs of these collections count.
        """
        ids, total = self._list.page(
            collection=collection, kind=kind, states=states, within=within, offset=offset, limit=limit
        )
        found = []
        for job in ids:
            with suppress(NotFound):  # it was forgotten meanwhile
                found.append(self.get(job))
        return found, total

    def unfinished(self) -> Iterator[Job]:
        """Yield the listed jobs that have not ended, oldest first."""
        for job in self._list.unfinished():
            try:
                found = self.get(job)
            except NotFound:
                self._list.note_end(job)
                continue
            if found.done:
                self._list.note_end(job)
            else:
                yield found

    def unfinished_ids(self) -> set[str]:
        """Return the listed jobs that may not have ended."""
        return set(self._list.unfinished())

    def close(self, job: str) -> None:
        """Note that no more images come: what was handed in is all."""
        self._update(job, {"closed": 1})

    def outcome(self, job: str) -> Outcome:
        """Return what became of a job by now, with all that was not taken: the whole of it is read.

        Raises:
            NotFound: There is no such job.
        """
        with guarded():
            if not self._redis.exists(f"job:{job}"):
                raise unknown_job(job)
        return total_of(
            (number, read_outcome(number.decode(), value))
            for piece in hash_pieces(self._redis, batches_key(job))
            for number, value in piece.items()
        )

    def batch_outcome(self, job: str, batch: int) -> Outcome | None:
        """Return what became of a batch; None if it is not reported."""
        with guarded():
            found = self._redis.hget(batches_key(job), str(batch))
        return None if found is None else read_outcome(batch, found)

    def reported(self, job: str, batch: int) -> bool:
        """Return whether a batch has an outcome."""
        with guarded():
            return bool(self._redis.hexists(batches_key(job), str(batch)))

    def reported_among(self, job: str, batches: Sequence[int]) -> set[int] | None:
        """Return those of some batches that have an outcome; None if the job is unknown.

        A job may have hundreds of thousands of batches, so only those that are asked for are looked at.
        """
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.exists(f"job:{job}")
            for batch in batches:
                pipeline.hexists(batches_key(job), str(batch))
            known, *reported = pipeline.execute()
        return {batch for batch, is_reported in zip(batches, reported, strict=True) if is_reported} if known else None

    def reports(self, job: str) -> tuple[int, int]:
        """Return how many batches have reported, and before how many batches of pages were known."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hlen(pages_key(job))
            pipeline.hlen(batches_key(job))
            pages, reported = pipeline.execute()
        return int(reported), int(pages)

    def unreported(self, job: Job) -> list[int]:
        """Return the batches of a job that are to report and have not, by their numbers.

        Those that were sent are known by their messages, which are kept until then. Those that were numbered and never
        sent are sought from the newest on, until none is missing.
        """
        found = self._unreported_among(job.id, sorted(self.sent.batches(job.id)))
        reported, _ = self.reports(job.id)
        missing = job.expected - reported - len(found)
        if missing > 0:
            for numbers in self._numbers(job):
                found |= self._unreported_among(job.id, numbers)
                if len(found) >= job.expected - reported:
                    break
        return sorted(found)

    def _numbers(self, job: Job) -> Iterator[Sequence[int]]:
        """Yield the numbers of a job's batches in pieces, the newest first, and those of its batches of pages."""
        yield from pieces(range(job.batches - 1, -1, -1))
        if job.page_batches:
            for piece in hash_pieces(self._redis, pages_key(job.id)):
                yield [int(batch) for batch in piece]

    def _unreported_among(self, job: str, batches: Sequence[int]) -> set[int]:
        reported = self.reported_among(job, batches)
        return set() if reported is None else set(batches) - reported

    def get(self, job: str) -> Job:
        """Return a job as it stands; that takes no longer for one of many batches.

        Raises:
            NotFound: There is no such job, or it is older than a week.
        """
        fields, reports, pages = self._read(job)
        if not (reports.are_whole and pages.are_whole):
            self._batches.count_older(batches_key(job))
            self._pages.count_older(pages_key(job))
            fields, reports, pages = self._read(job)
        if not fields:
            raise unknown_job(job)
        return Job(
            id=job,
            kind=fields[b"kind"].decode(),
            collection=fields[b"collection"].decode(),
            created=float(fields[b"created"]),
            closed=bool(int(fields.get(b"closed", 0))),
            total=int(fields.get(b"total", 0)) + pages_of(pages),
            batches=int(fields.get(b"batches", 0)),
            reported=reports.entries,
            steps=int(fields.get(b"steps", 0)),
            cancelled=b"cancelled" in fields,
            page_batches=pages.entries,
            counts=counts_of(reports),
        )

    def _read(self, job: str) -> tuple[dict[bytes, Any], Sums, Sums]:
        """Return a job's record and sums; pages last, as those that a batch has found are known before its report."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hgetall(f"job:{job}")
            self._batches.ask(pipeline, batches_key(job))
            self._pages.ask(pipeline, pages_key(job))
            fields, batches, pages = pipeline.execute()
        return fields, Sums.of(batches), Sums.of(pages)


def unknown_job(job: str) -> NotFound:
    """Return the error of a job that does not exist, or that one may not see."""
    return NotFound(f"there is no job {job[:80]!r}; jobs are kept for a week")
