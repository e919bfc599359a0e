"""Jobs: the list of them, cancelling an ingest, and the sweeper that finds work which nobody has."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from services.embedder.embedder import Embedder, Options
from services.maintenance.job_sweeper import LOOKS, SENDINGS, JobSweeper
from shared.errors import BrokerUnavailable, NotFound
from shared.images import DirectDecoder
from shared.messaging.intake import Intake, IntakeOptions
from shared.messaging.job_submission import submit
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import EMBED, QUEUES
from shared.state import Client, Jobs, connect
from shared.state.outcomes import Outcome
from shared.state.sent_messages import SentMessage
from shared.storage import layout
from tests.support.indexing import Parts, parts_of
from tests.support.servers import Servers


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


@pytest.fixture
def broker(servers: Servers) -> Client:
    return connect(servers.settings.broker_url.get_secret_value())


class Sweeping:
    """A sweeper that looks as often as it is told."""

    def __init__(self, parts: Parts) -> None:
        self._sweeper = JobSweeper(parts.clients())

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self._sweeper.run()


@pytest.fixture
def sweeping(parts: Parts) -> Sweeping:
    return Sweeping(parts)


def handed_in(parts: Parts, *, images: int = 5, batch_size: int = 2, first: int = 0) -> str:
    """Hand in some images, which are no pictures, and return the job."""
    options = IntakeOptions(batch_size=batch_size, threads=1, patience_s=0.0)
    with Intake("art", parts.clients(), options) as intake:
        for number in range(first, first + images):
            intake.add(f"{number}.jpg", "old", lambda number=number: b"image %d" % number)  # type: ignore[misc]
    return intake.job


def waiting(broker: Client) -> int:
    return sum(int(broker.llen(queue)) for queue in QUEUES)


def originals(parts: Parts) -> int:
    return len(list(parts.store.list("images/")))


# The list


def test_jobs_are_listed_newest_first_and_found_by_what_they_are(redis: Client) -> None:
    jobs = Jobs(redis)
    kinds = ("ingest", "delete", "tune", "ingest", "evaluate")
    for number, kind in enumerate(kinds):
        jobs.create(f"j{number}", "art" if number < 3 else "maps", kind=kind)  # type: ignore[arg-type]
    jobs.create("part", "art", listed=False)
    jobs.report("j1", 0, Outcome(affected=2))
    jobs.extend("j3", batches=1, total=7, closed=True)
    jobs.cancel("j4")
    jobs.report("j4", 0, Outcome())

    def ids(**filters: Any) -> list[str]:
        found, total = jobs.page(**filters)
        assert total >= len(found)
        return [job.id for job in found]

    assert ids() == ["j4", "j3", "j2", "j1", "j0"]
    assert ids(offset=1, limit=2) == ["j3", "j2"]
    assert jobs.page(limit=1)[1] == 5
    assert ids(collection="art") == ["j2", "j1", "j0"]
    assert jobs.page(collection="art", limit=1)[1] == 3
    assert ids(kind="ingest") == ["j3", "j0"]
    assert ids(states=["done", "cancelled"]) == ["j4", "j1"]
    assert ids(states=["open"]) == ["j0"]
    assert ids(states=["running"], collection="maps") == ["j3"]
    assert [job.state for job in jobs.page()[0]] == ["cancelled", "running", "running", "done", "open"]


def test_the_number_of_jobs_that_are_kept_is_bounded_and_no_job_under_way_is_forgotten(redis: Client) -> None:
    jobs = Jobs(redis, most=20)
    jobs.create("open", "art")
    for number in range(200):
        jobs.create(f"{number:03}", "art", kind="delete")
        jobs.sent.note(f"{number:03}", 0, sent_nothing())
        jobs.set_result(f"{number:03}", {"some": "result"})
        jobs.report(f"{number:03}", 0, Outcome(affected=1))
    assert jobs.page(limit=1)[1] == 20 + 1
    assert jobs.get("open").state == "open"
    assert jobs.get("199").done
    with pytest.raises(NotFound):
        jobs.get("100")
    names = [key for key in redis.scan_iter(count=1000) if b"job" in key or b"sent" in key]
    assert len(names) <= 4 * 20 + 4
    assert [job.id for job in jobs.unfinished()] == ["open"]


def sent_nothing() -> SentMessage:
    return SentMessage("some.task", {})


# Cancelling


def test_of_a_cancelled_ingest_what_is_added_stays_and_the_rest_is_not(parts: Parts, broker: Client) -> None:
    collection = parts.collection()
    parts.add(collection, "earlier", [1, 2])
    job = handed_in(parts, images=4)
    outcome = parts.write(collection, layout.batch_segment(job, 0), [10, 11])  # the first batch is written by now
    kept = originals(parts)
    parts.jobs.cancel(job)
    embedder = Embedder(parts.clients(), Options(model=("lite", 1), decoder=DirectDecoder(), program="test"))
    assert broker.llen(EMBED) == 2
    message = parts.jobs.sent.get(job, 1)
    assert message is not None
    items = [BatchImage(**item) for item in message.arguments["items"]]
    embedder.embed(job=job, batch=1, collection="art", items=items)
    parts.indexer().segments.index(
        set_name="art", segment=layout.batch_segment(job, 0), job=job, batch=0, outcome=outcome
    )
    done = parts.jobs.get(job)
    assert (done.state, done.added) == ("cancelled", 2)
    assert [(rejection.name, rejection.code) for rejection in parts.jobs.outcome(job).rejected] == [
        ("2.jpg", "cancelled"),
        ("3.jpg", "cancelled"),
    ]
    assert originals(parts) == kept - 2
    assert parts.state.claims.count("art") == 4


def test_an_intake_stops_when_its_job_is_cancelled(parts: Parts) -> None:
    with Intake("art", parts.clients(), IntakeOptions(batch_size=1, threads=1)) as intake:
        intake.add("a.jpg", None, lambda: b"a")
        parts.jobs.cancel(intake.job)
        for number in range(10):
            if intake.cancelled:
                break
            intake.add(f"{number}.jpg", None, lambda number=number: b"%d" % number)  # type: ignore[misc]
    assert intake.cancelled
    assert parts.jobs.get(intake.job).closed


# The sweeper


def test_messages_that_a_broker_lost_are_sent_again(parts: Parts, broker: Client, sweeping: Sweeping) -> None:
    jobs = [handed_in(parts, first=10 * number) for number in range(3)]
    deletion = submit(
        parts.jobs, "delete", "art", lambda job: parts.queue.delete(job=job, collection="art", image_ids=[1])
    )
    sweeping.look(LOOKS + 1)
    held = parts.queue.held()
    assert len(held) == waiting(broker) == 3 * 3 + 1  # nothing was missing
    broker.flushall()
    sweeping.look(LOOKS - 1)
    assert waiting(broker) == 0
    sweeping.look()
    assert parts.queue.held() == held == {(job, batch) for job in jobs for batch in range(3)} | {(deletion, 0)}
    assert waiting(broker) == len(held)
    sweeping.look(LOOKS + 1)
    assert waiting(broker) == len(held)


def test_a_batch_that_is_lost_again_and_again_ends_with_its_reason_and_leaves_no_original(
    parts: Parts, broker: Client, sweeping: Sweeping
) -> None:
    job = handed_in(parts)
    rebuild = submit(parts.jobs, "rebuild", "art", lambda job: parts.queue.rebuild(job=job, collection="art"))
    for _ in range(SENDINGS):
        broker.flushall()
        sweeping.look(LOOKS)
        assert waiting(broker) == 4
    assert originals(parts) == 5
    broker.flushall()
    sweeping.look(LOOKS)
    assert parts.jobs.get(job).done
    rejected = parts.jobs.outcome(job).rejected
    assert [rejection.name for rejection in rejected] == [f"{number}.jpg" for number in range(5)]
    assert {(rejection.code, rejection.reason) for rejection in rejected} == {
        ("lost", "its message was lost; add the images again")
    }
    assert [rejection.reason for rejection in parts.jobs.outcome(rebuild).rejected] == [
        "its message was lost; ask for it again"
    ]
    assert originals(parts) == 0
    assert not [key for key in parts.redis.scan_iter(count=1000) if key.startswith((b"sent:", b"pin:", b"attempt:"))]


def test_a_batch_whose_segment_is_written_is_never_given_up(parts: Parts, broker: Client, sweeping: Sweeping) -> None:
    """Its images would count as duplicates when they are added again, and be found by nobody."""
    collection = parts.collection()
    job = handed_in(parts, images=2)
    outcome = parts.write(collection, layout.batch_segment(job, 0), [1, 2])
    for _ in range(SENDINGS + 2):
        broker.flushall()
        sweeping.look(LOOKS)
        assert waiting(broker) == 1
    parts.queue.index(set_name="art", segment=layout.batch_segment(job, 0), job=job, batch=0, outcome=outcome)
    for _ in range(SENDINGS + 2):
        broker.flushall()
        sweeping.look(LOOKS)
        assert int(broker.llen("index")) == 1


def test_a_slow_batch_is_not_sent_again(parts: Parts, broker: Client, sweeping: Sweeping) -> None:
    job = handed_in(parts, images=2)
    broker.flushall()
    with parts.state.attempts.hold(layout.batch_segment(job, 0)):
        sweeping.look(3 * LOOKS)
    assert waiting(broker) == 0
    sweeping.look(LOOKS)
    assert waiting(broker) == 1


def test_what_a_worker_has_taken_is_held(parts: Parts, broker: Client, sweeping: Sweeping) -> None:
    job = handed_in(parts, images=2)
    message = broker.rpop(EMBED)
    assert message is not None
    broker.hset("unacked", "tag", b'[%b, "", "embed"]' % message)
    sweeping.look(3 * LOOKS)
    assert (waiting(broker), parts.queue.held()) == (0, {(job, 0)})


def test_a_job_whose_submitter_died_is_closed_with_what_it_had_sent(parts: Parts, sweeping: Sweeping) -> None:
    with interrupted(parts) as job:
        sweeping.look(3 * LOOKS)
        assert parts.jobs.get(job).state == "open"
    sweeping.look(LOOKS)
    assert parts.jobs.get(job).state == "running"
    for batch in range(2):
        parts.jobs.report(job, batch, Outcome({"": 2}))
    sweeping.look(LOOKS)
    ended = parts.jobs.get(job)
    assert (ended.state, ended.added) == ("done", 4)
    assert not list(parts.jobs.unfinished())


def test_a_batch_that_was_counted_and_never_sent_is_ended(parts: Parts, sweeping: Sweeping) -> None:
    parts.jobs.create("j", "art")
    parts.jobs.extend("j", batches=1, total=2, closed=False)
    sweeping.look(2 * LOOKS + 1)
    assert parts.jobs.get("j").done
    assert [rejection.code for rejection in parts.jobs.outcome("j").rejected] == ["lost"]


@contextmanager
def interrupted(parts: Parts) -> Iterator[str]:
    """Hand in images over the block, at whose end the submitter is interrupted."""
    intake = Intake("art", parts.clients(), IntakeOptions(batch_size=2)).__enter__()
    for number in range(5):
        intake.add(f"{number}.jpg", None, lambda number=number: b"%d" % number)  # type: ignore[misc]
    intake._store()
    while intake._in_flight:
        intake._take()
    assert len(intake._outstanding) == 2
    yield intake.job
    intake.__exit__(KeyboardInterrupt)


def test_of_a_job_whose_message_could_not_be_sent_nothing_is_left(parts: Parts, broker: Client) -> None:
    broker.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(BrokerUnavailable):
            submit(parts.jobs, "rebuild", "art", lambda job: parts.queue.rebuild(job=job, collection="art"))
    finally:
        broker.config_set("min-replicas-to-write", 0)
    assert parts.jobs.page() == ([], 0)
    assert not list(parts.redis.scan_iter())
