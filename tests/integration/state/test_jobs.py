"""Jobs on a real server and on a real cluster."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from shared.errors import IndexLost, NotFound
from shared.state import Client, Jobs, Rejection
from shared.state.job_entries import batches_key
from shared.state.outcomes import Counts, Outcome
from shared.state.running_sums import sums_key
from shared.state.sent_messages import SentMessage


def test_a_job_is_done_when_all_its_batches_have_reported(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art")
    assert not jobs.get("j").done
    jobs.extend("j", batches=2, total=7, closed=False)
    first = Outcome({"painting": 2, "": 1}, 1, (Rejection("x.jpg", "corrupt", "why"),))
    assert jobs.report("j", 0, first) is False
    assert jobs.report("j", 1, Outcome({"painting": 2})) is False  # more may come
    assert not jobs.get("j").done
    jobs.extend("j", batches=2, total=7, closed=True)
    job = jobs.get("j")
    assert job.done
    assert (job.kind, job.collection, job.total, job.added, job.reported) == ("ingest", "art", 7, 5, 2)
    assert job.counts.images == 7
    assert jobs.outcome("j") == Outcome({"": 1, "painting": 4}, 1, first.rejected)
    assert jobs.report("j", 1, Outcome({"painting": 2})) is True


def test_a_batch_counts_once_however_often_it_reports(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art")
    jobs.extend("j", batches=1, total=3, closed=True)
    assert not jobs.reported("j", 0)
    for outcome in (Outcome({"": 3}), Outcome({}, 3), Outcome({"": 3})):
        assert jobs.report("j", 0, outcome) is True
    assert jobs.reported("j", 0)
    assert jobs.outcome("j") == Outcome({"": 3})
    assert jobs.get("j").counts == Counts(added=3)
    assert jobs.reported_among("j", [0, 1]) == {0}


def test_a_job_of_another_kind_is_done_with_its_only_batch(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art", kind="delete")
    assert not jobs.get("j").done
    assert jobs.report("j", 0, Outcome(affected=2))
    job = jobs.get("j")
    assert (job.done, job.kind, job.counts.affected, job.added) == (True, "delete", 2, 0)


def test_an_unknown_job_is_not_found_and_a_known_one_is_forgotten_after_a_week(redis: Client) -> None:
    jobs = Jobs(redis)
    with pytest.raises(NotFound, match="nothing"):
        jobs.get("nothing")
    with pytest.raises(NotFound, match="nothing"):
        jobs.outcome("nothing")
    assert jobs.reported_among("nothing", [0]) is None
    jobs.create("j", "art")
    jobs.extend("j", batches=1, total=1, closed=True)
    jobs.report("j", 0, Outcome({"": 1}))
    week = 7 * 24 * 3600
    assert all(week - 60 < redis.ttl(key) <= week for key in ("job:j", batches_key("j"), sums_key(batches_key("j"))))


def test_all_of_a_job_is_kept_for_a_week_after_each_sign_of_life(redis: Client) -> None:
    """Without the number of its pages, a job that still runs would count as done, and nobody would look after it."""
    jobs = Jobs(redis)
    signs_of_life: list[Callable[[], object]] = [
        lambda: jobs.report("j", 1, Outcome({"": 1})),
        lambda: jobs.report("j", 1, Outcome({"": 1})),  # as a task that runs twice does
        lambda: jobs.extend("j", batches=2, total=9, closed=True),
        lambda: jobs.advance("j", steps=1, total=9),
    ]
    jobs.create("j", "art")
    jobs.extend("j", batches=2, total=9, closed=True)
    jobs.sent.note("j", 0, SentMessage("some.task", {}))
    jobs.add_pages("j", 7, 30)
    jobs.report("j", 0, Outcome({"": 1}))
    jobs.sent.note("j", 7, SentMessage("some.task", {}))
    keys = {key for key in redis.scan_iter() if key.startswith((b"job:", b"sent:"))}
    assert len(keys) == 1 + 2 * 2 + 1
    for sign in signs_of_life:
        for key in keys:
            redis.expire(key, 100)
        sign()
        assert all(redis.ttl(key) > 7 * 24 * 3600 - 60 for key in keys)
    assert (jobs.get("j").state, jobs.unreported(jobs.get("j"))) == ("running", [7])


class _Losing:
    """A client after whose first exchange with the server the index is emptied by somebody else."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._emptied = False

    def __getattr__(self, name: str) -> object:
        if name == "pipeline":
            return self._pipeline
        return self._then_empty(getattr(self._client, name))

    def _pipeline(self, **options: bool) -> Client:
        pipeline = self._client.pipeline(**options)
        pipeline.execute = self._then_empty(pipeline.execute)
        return pipeline

    def _then_empty(self, call: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object, **options: object) -> object:
            answer = call(*arguments, **options)
            if not self._emptied:
                self._client.flushall()
                self._emptied = True
            return answer

        return called


def test_a_record_that_is_lost_while_it_is_written_does_not_come_back_in_part(redis: Client) -> None:
    """It would be a job without a kind, which no command could tell from its own and nothing ever removes."""
    jobs = Jobs(redis)
    writes: list[Callable[[Jobs], None]] = [
        lambda losing: losing.extend("j", batches=1, total=3, closed=True),
        lambda losing: losing.advance("j", steps=1, total=3),
        lambda losing: losing.cancel("j"),
    ]
    for number, write in enumerate(writes):
        jobs.create("j", "art", kind="evaluate")
        with suppress(NotFound):  # told to whoever asks for the end of a job that is no more
            write(Jobs(_Losing(redis)))
        assert redis.dbsize() == 0, number
        with pytest.raises(NotFound, match="there is no job 'j'"):
            jobs.get("j")
    with pytest.raises(IndexLost, match="run the command again"):
        jobs.extend("j", batches=1, total=3, closed=True)
    jobs.advance("j", steps=1, total=3)
    assert jobs.reported_among("j", [0]) is None


def test_only_the_batches_that_are_asked_for_are_told_of(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art")
    for batch in (1, 3, 5):
        jobs.report("j", batch, Outcome({"": 1}))
    assert jobs.reported_among("j", [5, 4, 3, 3]) == {3, 5}
    assert jobs.reported_among("j", []) == set()


def test_an_outcome_survives_json() -> None:
    outcome = Outcome({"": 1, "Ölbild": 2}, 3, (Rejection("絵.jpg", "corrupt", "a reason"),), 4)
    assert Outcome.from_json(outcome.to_json()) == outcome
    assert outcome.images == 7
