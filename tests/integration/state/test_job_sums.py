"""What follows a job costs as much for one of many batches as for one of few, and its sums are right."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import NotFound
from shared.messaging.job_submission import wait_for_end
from shared.state import Client, Jobs, Rejection
from shared.state.connection import servers
from shared.state.job_entries import batches_key, pages_key
from shared.state.outcomes import Counts, Outcome
from shared.state.running_sums import sums_key
from shared.state.sent_messages import SentMessage

FIRST_PAGES = 10**12  # the number of a batch of pages
MANY = 5000


def outcome_of(batch: int) -> Outcome:
    """Return an outcome in which there is some of all."""
    rejected = tuple(Rejection(f"{batch}-{code}.jpg", code, f"{code} in {batch}") for code in ("empty", "corrupt"))
    return Outcome({"oil": 20, "": batch % 3}, 4, rejected if batch % 2 else (), 1, 2, 1)


def counts_of(batches: range) -> Counts:
    """Return what `outcome_of` comes to, by plain sums."""
    odd = [batch for batch in batches if batch % 2]
    return Counts(
        added=sum(20 + batch % 3 for batch in batches),
        duplicates=4 * len(batches),
        affected=len(batches),
        relabelled=2 * len(batches),
        labels_kept=len(batches),
        rejected={"corrupt": len(odd), "empty": len(odd)} if odd else {},
        reason=f"empty in {min(odd, key=str)}" if odd else "",
    )


def write_older(client: Client, job: str, batches: range) -> None:
    """Write outcomes as versions did that kept no sums."""
    values = {str(batch): json.dumps(outcome_of(batch).to_json(), separators=(",", ":")) for batch in batches}
    client.hset(batches_key(job), mapping=values)


def many_batches(jobs: Jobs, job: str, count: int) -> None:
    jobs.create(job, "art")
    jobs.extend(job, batches=count + 1, total=24 * count, closed=True)
    for batch in range(count):
        jobs.report(job, batch, outcome_of(batch))


class Died(Exception):
    """Stands for the end of a process."""


class Interrupted:
    """A client to whose process something happens between two of its commands: after so many pieces of a hash."""

    def __init__(self, client: Client, pieces: int, what: Callable[[], object]) -> None:
        self._client, self._left, self._what = client, pieces, what

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def hscan(self, *arguments: Any, **options: Any) -> Any:
        found = self._client.hscan(*arguments, **options)
        if self._left == 0:
            self._what()
        self._left -= 1
        return found


def die() -> None:
    raise Died


class Cost:
    """How often the servers run each command, and how many bytes they answer with, until the end of a block."""

    def __init__(self, client: Client) -> None:
        self._servers = servers(client)
        self.calls: Counter[str] = Counter()
        self.sent = 0

    def __enter__(self) -> "Cost":
        for server in self._servers:
            server.config_resetstat()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            self.sent += server.info("stats")["total_net_output_bytes"]
            for name, stat in server.info("commandstats").items():
                self.calls[name.removeprefix("cmdstat_")] += stat["calls"]


def test_the_sums_are_those_of_all_outcomes(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art")
    jobs.extend("j", batches=12, total=300, closed=True)
    for batch in reversed(range(12)):
        for _ in range(2):  # as a task does that is delivered again
            jobs.report("j", batch, outcome_of(batch))
        jobs.report("j", batch, Outcome({"other": 99}, 99))
    job, whole = jobs.get("j"), jobs.outcome("j")
    assert (job.counts, job.reported, job.done) == (counts_of(range(12)), 12, True)
    assert Counts.of(whole.amounts, whole.rejected[0].reason) == job.counts
    assert whole.added == {"": 12, "oil": 240}


def test_a_reason_and_a_label_may_have_any_characters(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art", kind="delete")
    reason = 'an "odd" \udce4 name — 絵'
    outcome = Outcome({"format": 2, "\udce4": 1}, rejected=(Rejection("\udce4.jpg", "empty", reason),))
    jobs.report("j", 0, outcome)
    assert jobs.outcome("j") == outcome
    assert jobs.get("j").counts == Counts(added=3, rejected={"empty": 1}, reason=reason)


def test_pages_count_once_and_belong_to_the_total(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art")
    jobs.extend("j", batches=1, total=1, closed=True)
    redis.hset(pages_key("j"), mapping={str(FIRST_PAGES): 32, str(FIRST_PAGES + 1): 5})  # by an older version
    for _ in range(2):
        jobs.add_pages("j", FIRST_PAGES + 1, 5)
        jobs.add_pages("j", FIRST_PAGES + 2, 7)
    for _ in range(2):
        job = jobs.get("j")
        assert (job.total, job.page_batches, job.expected) == (1 + 32 + 5 + 7, 3, 4)
    assert jobs.reports("j") == (0, 3)


def test_of_a_forgotten_job_nothing_is_left_and_a_new_one_begins_at_nothing(redis: Client) -> None:
    jobs = Jobs(redis)
    for _ in range(2):
        many_batches(jobs, "j", 3)
        jobs.add_pages("j", FIRST_PAGES, 5)
        assert jobs.get("j").counts == counts_of(range(3))
        jobs.forget("j")
        assert {key for key in redis.scan_iter() if key != b"tally"} == set()


def test_a_report_that_comes_after_a_job_is_forgotten_counts_in_no_job_and_expires(redis: Client) -> None:
    jobs = Jobs(redis)
    many_batches(jobs, "j", 3)
    jobs.forget("j")
    jobs.report("j", 1, outcome_of(1))
    assert jobs.page() == ([], 0)
    assert all(redis.ttl(key) > 0 for key in (batches_key("j"), sums_key(batches_key("j"))))


def test_what_an_older_version_wrote_is_counted_once_whoever_reports_and_asks(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art")
    jobs.extend("j", batches=1300, total=9, closed=True)
    write_older(redis, "j", range(1200))
    redis.expire(batches_key("j"), 1000)
    assert jobs.get("j").counts == counts_of(range(1200))
    assert 900 < redis.ttl(sums_key(batches_key("j"))) <= 1000  # it is kept no longer than what it sums up
    with Cost(redis) as cost:
        assert jobs.get("j").counts == counts_of(range(1200))
    assert not cost.calls["hscan"]  # nobody has to read them again
    jobs.report("j", 7, Outcome({"other": 99}))
    for batch in range(1200, 1210):
        jobs.report("j", batch, outcome_of(batch))
    write_older(redis, "j", range(1210, 1220))  # by a worker that is not upgraded yet
    assert jobs.get("j").counts == counts_of(range(1220))
    assert jobs.get("j").reported == 1220


def test_who_dies_while_older_outcomes_are_counted_counts_none_twice(redis: Client) -> None:
    for pieces in range(3):
        Jobs(redis).create("j", "art")
        write_older(redis, "j", range(1200))
        with pytest.raises(Died):
            Jobs(Interrupted(redis, pieces, die)).get("j")
        assert Jobs(redis).get("j").counts == counts_of(range(1200)), pieces
        Jobs(redis).forget("j")


def test_two_who_count_older_outcomes_at_the_same_time_count_each_once(redis: Client) -> None:
    jobs = Jobs(redis)
    for pieces in range(3):
        jobs.create("j", "art")
        write_older(redis, "j", range(1200))
        found = Jobs(Interrupted(redis, pieces, lambda: jobs.get("j"))).get("j")
        assert found.counts == counts_of(range(1200)), pieces
        jobs.forget("j")


def test_a_job_that_is_forgotten_while_its_older_outcomes_are_counted_does_not_come_back(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art")
    write_older(redis, "j", range(1200))
    with pytest.raises(NotFound, match="'j'"):
        Jobs(Interrupted(redis, 0, lambda: jobs.forget("j"))).get("j")
    assert not list(redis.scan_iter())


def test_an_outcome_of_a_newer_version_is_refused_by_name(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art")
    redis.hset(batches_key("j"), "7", '{"format":99,"added":{}}')
    with pytest.raises(ValueError, match="outcome of batch '7' has format 99"):
        jobs.outcome("j")


def test_following_a_job_of_many_batches_costs_what_one_of_few_costs(redis: Client) -> None:
    jobs = Jobs(redis)
    few, many = "00000000001few", "00000000002many"
    many_batches(jobs, few, 20)
    many_batches(jobs, many, MANY)
    for pages in range(MANY):
        jobs.add_pages(many, FIRST_PAGES + pages, 3)
    jobs.add_pages(few, FIRST_PAGES, 3)

    def poll(job: str) -> None:
        assert not wait_for_end(jobs, job, deadline_s=0.01, poll_s=0.02)

    def listing(job: str) -> None:
        found, _ = jobs.page(limit=1, offset=0 if job == many else 1)
        assert [each.id for each in found] == [job]

    calls: list[Callable[[str], object]] = [jobs.get, poll, listing, jobs.reports]
    for number, call in enumerate(calls):
        costs = []
        for job in (few, many):
            with Cost(redis) as cost:
                call(job)
            costs.append(cost)
        assert costs[0].calls == costs[1].calls, number
        assert abs(costs[0].sent - costs[1].sent) < 100, number  # the digits of numbers
        assert not costs[1].calls["hscan"], number
    with Cost(redis) as cost:
        assert [job.id for job in jobs.unfinished()] == [few, many]
    assert cost.sent < 10_000


def test_the_batches_that_have_not_reported_are_found_without_a_look_at_all(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art")
    jobs.extend("j", batches=MANY, total=1, closed=False)
    sent, never_sent = {3, MANY - 7}, MANY - 2
    for batch in sent:
        jobs.sent.note("j", batch, SentMessage("some.task", {}))
    for batch in set(range(MANY)) - sent - {never_sent}:
        jobs.report("j", batch, outcome_of(batch))
    with Cost(redis) as cost:
        assert jobs.unreported(jobs.get("j")) == sorted({*sent, never_sent})
    assert cost.calls["hexists"] < MANY
    jobs.report("j", never_sent, outcome_of(never_sent))
    with Cost(redis) as cost:
        assert jobs.unreported(jobs.get("j")) == sorted(sent)
    assert cost.calls["hexists"] == len(sent)
    jobs.add_pages("j", FIRST_PAGES, 3)  # its embedder died before it sent them
    assert jobs.unreported(jobs.get("j")) == [*sorted(sent), FIRST_PAGES]
    for batch in (*sent, FIRST_PAGES):
        jobs.report("j", batch, outcome_of(batch))
    assert jobs.unreported(jobs.get("j")) == []
