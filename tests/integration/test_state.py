"""What Redis or Valkey holds: buckets, claims, changes and jobs, on a real server and on a real cluster."""

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from unittest.mock import patch

import numpy as np
import pytest
import redis as redis_py

from shared.errors import IndexLost, IndexUnavailable, Locked, NotFound
from shared.health import heartbeat
from shared.state import BucketStore, Change, Changes, Client, IndexState, Jobs, Rejection, State, connect
from shared.state.connection import servers as servers_of
from shared.state.jobs import Outcome
from shared.state.locks import Lock
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.servers import Servers

LOCK = Lock("x", "x is being tested")


@pytest.fixture(params=["one server", "a cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty index."""
    if request.param == "a cluster":
        return str(request.getfixturevalue("cluster").url)
    return str(request.getfixturevalue("servers").settings.index_url.get_secret_value())


@pytest.fixture
def redis(url: str) -> Client:
    """A client of an empty index."""
    return connect(url)


# Buckets


def members(redis: Client) -> dict[bytes, set[int]]:
    return {key: {int(one) for one in redis.smembers(key)} for key in redis.scan_iter(match=b"b:*", count=1000)}


def test_the_union_of_buckets_is_told_with_how_often_each_was_seen(redis: Client) -> None:
    buckets = BucketStore(redis)
    buckets.add([b"b:1", b"b:2", b"b:1", b"b:3"], [7, 7, 2**53 - 1, 5])
    found = buckets.candidates([b"b:1", b"b:2", b"b:none"])
    assert dict(zip(found.ids.tolist(), found.counts.tolist(), strict=True)) == {7: 2, 2**53 - 1: 1}
    assert found.ids.dtype == found.counts.dtype == np.int64
    for names in ([], [b"b:none"]):
        found = buckets.candidates(names)
        assert found.ids.tolist() == found.counts.tolist() == []
        assert found.ids.dtype == np.int64


def test_adding_and_removing_twice_is_adding_and_removing_once(redis: Client) -> None:
    buckets = BucketStore(redis)
    for _ in range(2):
        buckets.add([b"b:1", b"b:2"], [1, 1])
        buckets.add([b"b:1"], [2])
    assert members(redis) == {b"b:1": {1, 2}, b"b:2": {1}}
    for _ in range(2):
        buckets.remove([b"b:1", b"b:2"], [1, 1])
    assert members(redis) == {b"b:1": {2}}
    buckets.add([], [])
    with pytest.raises(ValueError, match="argument"):
        buckets.add([b"b:1"], [1, 2])


@pytest.mark.parametrize("count", [4095, 4096, 4097, 10_000])
def test_no_bucket_is_left_out_of_a_large_batch(redis: Client, count: int) -> None:
    """Commands are sent some thousand at a time."""
    buckets = BucketStore(redis)
    names = [b"b:%05d" % place for place in range(count)]
    buckets.add(names, list(range(count)))
    assert members(redis) == {name: {place} for place, name in enumerate(names)}
    buckets.remove(names, list(range(count)))
    assert members(redis) == {}


@pytest.mark.parametrize("special", [bytes([byte]) for byte in b"*?[]\\^-\x00\n\xff"])
def test_dropping_takes_the_prefix_literally(redis: Client, special: bytes) -> None:
    buckets = BucketStore(redis)
    dropped = [b"b:" + special + tail for tail in (b"", b"1", b"22")]
    other = [b"b:x1", b"b:", b"x:" + special, b"b:xx"]
    buckets.add(dropped + other, [1] * 7)
    assert buckets.drop(b"b:" + special) == 3
    assert {key for key in redis.scan_iter(count=1000) if key.startswith((b"b:", b"x:"))} == set(other)


def test_dropping_keeps_what_is_to_be_kept(redis: Client) -> None:
    buckets = BucketStore(redis)
    names = [b"b:%d:%04d" % (generation, place) for generation in (1, 2, 3) for place in range(3000)]
    buckets.add(names, [1] * len(names))
    assert buckets.drop(b"b:", keep=b"b:2:") == 6000
    assert set(members(redis)) == {name for name in names if name.startswith(b"b:2:")}


def test_integer_ids_cost_few_bytes(redis: Client) -> None:
    """The server keeps a bucket as an array of integers up to far more than a bucket of ours holds."""
    BucketStore(redis).add([b"b:1"] * 2000, [2**52 + place for place in range(2000)])
    assert redis.object("encoding", b"b:1") == b"intset"
    assert redis.memory_usage(b"b:1", samples=0) < 2000 * 12


# Claims


def test_an_image_is_claimed_by_the_first_and_by_nobody_else(redis: Client) -> None:
    state = State.of(redis)
    assert state.claims.claim("art", "a", [1, 2]) == ["a", "a"]
    assert state.claims.claim("art", "b", [2, 3]) == ["a", "b"]
    assert state.claims.claim("art", "a", [1, 2]) == ["a", "a"]
    assert state.claims.claim("other", "c", [1]) == ["c"]
    assert state.claims.holders("art", [3, 2, 1, 9]) == ["b", "a", "a", None]
    assert (state.claims.count("art"), state.claims.count("other"), state.claims.count("none")) == (3, 1, 0)
    assert (state.claims.claim("art", "a", []), state.claims.holders("art", [])) == ([], [])


def test_of_many_at_once_exactly_one_gets_each_image(url: str) -> None:
    images = list(range(1, 201))

    def claim(segment: str) -> list[str]:
        return State.of(connect(url)).claims.claim("art", segment, images)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(claim, [f"segment-{number}" for number in range(8)]))
    assert all(answer == answers[0] for answer in answers)
    assert set(answers[0]) <= {f"segment-{number}" for number in range(8)}


def test_only_its_holder_releases_an_image(redis: Client) -> None:
    state = State.of(redis)
    state.claims.claim("art", "a", [1, 2])
    state.claims.release("art", "b", [1, 2])
    assert state.claims.holders("art", [1, 2]) == ["a", "a"]
    state.claims.release("art", "a", [1, 77])
    assert state.claims.holders("art", [1, 2]) == [None, "a"]
    state.claims.take_over("art", "b", [2])
    state.claims.release("art", "a", [2])
    state.claims.release("art", "a", [])
    state.claims.take_over("art", "a", [])
    assert state.claims.holders("art", [2]) == ["b"]


def test_settled_segments_and_states_are_kept_apart_by_collection(redis: Client) -> None:
    state = State.of(redis)
    assert state.index_states.get("art") is None
    state.index_states.set("art", IndexState())
    assert state.index_states.get("art") == IndexState()
    assert IndexState().generations == ()
    state.index_states.set("art", IndexState(3, 4, 500))
    assert state.index_states.get("art") == IndexState(3, 4, 500)
    assert IndexState(3, 4, 500).generations == (3, 4)
    state.indexed_segments.add("art", "a")
    assert state.indexed_segments.contain("art", ["b", "a"]) == [False, True]
    assert state.indexed_segments.contain("other", ["a"]) == [False]
    assert state.indexed_segments.contain("art", []) == []
    state.claims.claim("art", "a", [1])
    state.claims.claim("other", "a", [1])
    state.forget("art")
    assert (state.index_states.get("art"), state.claims.count("art"), state.indexed_segments.contain("art", ["a"])) == (
        None,
        0,
        [False],
    )
    assert state.claims.count("other") == 1


def test_attempts_tell_what_a_task_died_at(redis: Client) -> None:
    state = State.of(redis)
    assert state.attempts.begin("task") == (1, None)
    state.attempts.note_item("task", "first")
    state.attempts.note_item("task", "second")
    assert state.attempts.begin("task") == (2, "second")
    assert state.attempts.begin("task") == (3, None)  # it died before it was at anything
    assert [
        state.attempts.strike("task", "second"),
        state.attempts.strike("task", "second"),
        state.attempts.strike("task", "x"),
    ] == [1, 2, 1]
    state.attempts.note_item("task", "third")
    state.attempts.pause("task")
    assert state.attempts.begin("task") == (1, None)
    assert state.attempts.strike("task", "second") == 3
    state.attempts.end("task")
    assert state.attempts.begin("task") == (1, None)
    assert state.attempts.strike("task", "second") == 1
    assert 0 < redis.ttl("attempt:task") <= 24 * 3600


def test_images_are_set_aside_for_one_version(redis: Client) -> None:
    state = State.of(redis)
    state.attempts.set_aside("1.0", "ab")
    assert state.attempts.are_set_aside("1.0", ["cd", "ab"]) == [False, True]
    assert state.attempts.are_set_aside("1.1", ["ab"]) == [False]
    assert state.attempts.are_set_aside("1.0", []) == []


# Locks


def test_a_lock_is_held_by_one_and_then_free(redis: Client) -> None:
    locks = State.of(redis).locks
    with locks.hold(LOCK):
        assert locks.is_held(LOCK)
        with pytest.raises(Locked, match="x is being tested"), locks.hold(LOCK):
            raise AssertionError
        with locks.hold(Lock("y", "y is being tested")):
            assert locks.is_held(LOCK)
    assert not locks.is_held(LOCK)
    with pytest.raises(KeyError), locks.hold(LOCK):
        raise KeyError
    with locks.hold(LOCK):
        assert locks.is_held(LOCK)


def test_a_lock_does_not_run_out_while_it_is_held(redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.state.locks.LEASE_S", 3.0)
    locks = State.of(redis).locks
    with locks.hold(LOCK):
        with pytest.raises(Locked), locks.hold(LOCK, wait_s=5.0):  # longer than the lease
            raise AssertionError
        assert locks.is_held(LOCK)
    with locks.hold(LOCK):
        assert locks.is_held(LOCK)


def test_a_lock_is_waited_for(url: str) -> None:
    locks = [State.of(connect(url)).locks for _ in range(2)]
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with locks[0].hold(LOCK):
            inside.set()
            leave.wait(PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(PATIENCE_S)
    threading.Timer(0.3, leave.set).start()
    with locks[1].hold(LOCK, wait_s=120):
        assert leave.is_set()
    thread.join()


# Changes


def test_changes_are_followed_in_order_from_a_position_on(redis: Client) -> None:
    changes = Changes(redis)
    start = changes.position()
    assert start == "0-0"
    told = [Change("art", "collection"), Change("art", "segment", "a"), Change("art", "deleted", "a/5")]
    for change in told:
        changes.announce(change)
    assert changes.since(start) == (changes.position(), told)
    position = changes.position()
    assert changes.since(position) == (position, [])
    changes.announce(Change("b", "dropped"))
    answer = changes.since(position)
    assert answer is not None
    assert answer[1] == [Change("b", "dropped")]


def test_a_follower_waits_for_an_announcement(url: str) -> None:
    timer = threading.Timer(0.2, lambda: Changes(connect(url)).announce(Change("art", "index")))
    timer.start()
    answer = Changes(connect(url)).since("0-0", block_ms=20_000)
    assert answer is not None
    assert answer[1] == [Change("art", "index")]


def test_a_stream_that_lost_the_position_says_so(redis: Client) -> None:
    changes = Changes(redis)
    changes.announce(Change("art", "index"))
    position = changes.position()
    redis.flushall()
    assert changes.since(position) is None
    time.sleep(0.002)  # the server names an entry by the millisecond
    changes.announce(Change("art", "index"))
    assert changes.since(position) is None
    position = changes.position()
    for _ in range(5):
        changes.announce(Change("art", "index"))
    redis.xtrim("changes", maxlen=3, approximate=False)
    assert changes.since(position) is None


def test_an_announcement_of_a_later_version_is_passed_over(redis: Client) -> None:
    changes = Changes(redis)
    redis.xadd("changes", {"c": "art", "k": "unheard-of", "v": ""})
    changes.announce(Change("art", "rebuilt"))
    answer = changes.since("0-0")
    assert answer == (changes.position(), [Change("art", "rebuilt")])


# Jobs


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
    assert (job.kind, job.collection, job.total, job.added, job.reported) == ("ingest", "art", 7, 5, frozenset({0, 1}))
    assert job.outcome.images == 7
    assert job.outcome == Outcome({"": 1, "painting": 4}, 1, first.rejected)
    assert jobs.report("j", 1, Outcome({"painting": 2})) is True


def test_a_batch_counts_once_however_often_it_reports(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art")
    jobs.extend("j", batches=1, total=3, closed=True)
    assert not jobs.reported("j", 0)
    for outcome in (Outcome({"": 3}), Outcome({}, 3), Outcome({"": 3})):
        assert jobs.report("j", 0, outcome) is True
    assert jobs.reported("j", 0)
    assert jobs.get("j").outcome == Outcome({"": 3})
    assert jobs.progress("j") == {0}


def test_a_job_of_another_kind_is_done_with_its_only_batch(redis: Client) -> None:
    jobs = Jobs(redis)
    jobs.create("j", "art", kind="delete")
    assert not jobs.get("j").done
    assert jobs.report("j", 0, Outcome(affected=2))
    job = jobs.get("j")
    assert (job.done, job.kind, job.outcome.affected, job.added) == (True, "delete", 2, 0)


def test_an_unknown_job_is_not_found_and_a_known_one_is_forgotten_after_a_week(redis: Client) -> None:
    jobs = Jobs(redis)
    with pytest.raises(NotFound, match="nothing"):
        jobs.get("nothing")
    assert jobs.progress("nothing") is None
    jobs.create("j", "art")
    jobs.extend("j", batches=1, total=1, closed=True)
    jobs.report("j", 0, Outcome({"": 1}))
    assert jobs.progress("j") == {0}
    week = 7 * 24 * 3600
    assert all(week - 60 < redis.ttl(key) <= week for key in ("job:j", "job:j:batches"))


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
    assert jobs.progress("j") is None


def test_an_outcome_survives_json() -> None:
    outcome = Outcome({"": 1, "Ölbild": 2}, 3, (Rejection("絵.jpg", "corrupt", "a reason"),), 4)
    assert Outcome.from_json(outcome.to_json()) == outcome
    assert outcome.images == 7


def test_heartbeats_tell_how_long_ago_they_came(redis: Client) -> None:
    assert heartbeat.beats(redis) == {}
    began = time.time()
    redis.hset("heartbeats", "embedder", repr(began - 100))
    stop = heartbeat.start(redis, "indexer")
    try:
        found = eventually(lambda: heartbeat.beats(redis), until=lambda beats: "indexer" in beats)
    finally:
        stop()
    passed = time.time() - began
    assert found["indexer"] <= passed
    assert 100 <= found["embedder"] <= 100 + passed


# A server that is away


def test_a_killed_server_is_unavailable_to_every_call_and_loses_nothing(servers: Servers) -> None:
    client = connect(servers.settings.index_url.get_secret_value(), retries=0)
    buckets, state, changes, jobs = BucketStore(client), State.of(client), Changes(client), Jobs(client)
    buckets.add([b"b:1"], [5])
    state.claims.claim("art", "a", [5])
    state.index_states.set("art", IndexState(1, 0, 2))
    changes.announce(Change("art", "segment", "a"))
    position = changes.position()
    jobs.create("j", "art")
    jobs.report("j", 0, Outcome({"": 1}))
    servers.index.kill()
    for call in (
        lambda: buckets.add([b"b:1"], [6]),
        lambda: buckets.remove([b"b:1"], [5]),
        lambda: buckets.candidates([b"b:1"]),
        lambda: buckets.drop(b"b:"),
        lambda: state.index_states.get("art"),
        lambda: state.index_states.set("art", IndexState()),
        lambda: state.forget("art"),
        lambda: state.claims.claim("art", "b", [5]),
        lambda: state.claims.take_over("art", "b", [5]),
        lambda: state.claims.holders("art", [5]),
        lambda: state.claims.release("art", "a", [5]),
        lambda: state.claims.count("art"),
        lambda: state.indexed_segments.add("art", "a"),
        lambda: state.indexed_segments.contain("art", ["a"]),
        lambda: state.attempts.begin("t"),
        lambda: state.attempts.note_item("t", "x"),
        lambda: state.attempts.strike("t", "x"),
        lambda: state.attempts.pause("t"),
        lambda: state.attempts.end("t"),
        lambda: state.attempts.set_aside("1", "ab"),
        lambda: state.attempts.are_set_aside("1", ["ab"]),
        lambda: state.locks.hold(LOCK).__enter__(),
        lambda: changes.announce(Change("art", "index")),
        changes.position,
        lambda: changes.since(position),
        lambda: jobs.create("k", "art"),
        lambda: jobs.extend("j", batches=1, total=1, closed=True),
        lambda: jobs.report("j", 1, Outcome()),
        lambda: jobs.reported("j", 0),
        lambda: jobs.progress("j"),
        lambda: jobs.get("j"),
        lambda: heartbeat.beats(client),
    ):
        with pytest.raises(IndexUnavailable, match="does not answer"):
            call()
    servers.index.start()
    assert buckets.candidates([b"b:1"]).ids.tolist() == [5]
    assert (state.claims.holders("art", [5]), state.index_states.get("art")) == (["a"], IndexState(1, 0, 2))
    assert changes.since(position) == (position, [])
    assert jobs.get("j").added == 1


def test_a_restart_is_waited_for_by_default(servers: Servers) -> None:
    state = State.of(connect(servers.settings.index_url.get_secret_value()))
    state.claims.claim("art", "a", [1])
    servers.index.kill()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(state.claims.holders, "art", [1])
        servers.index.start()
        assert answer.result(60) == ["a"]


def test_a_lock_that_is_lost_with_the_server_does_not_hide_that_the_server_is_away(servers: Servers) -> None:
    state = State.of(connect(servers.settings.index_url.get_secret_value(), retries=0))
    lock = state.locks.hold(LOCK)
    lock.__enter__()
    servers.index.kill()
    with pytest.raises(IndexUnavailable):
        lock.__exit__(None, None, None)
    servers.index.start()


def test_a_server_that_hangs_is_unavailable(servers: Servers) -> None:
    client = connect(servers.settings.index_url.get_secret_value(), timeout_s=2.0, retries=0)
    state = State.of(client)
    assert state.claims.count("art") == 0
    os.kill(servers.index.pid, signal.SIGSTOP)
    try:
        with pytest.raises(IndexUnavailable):
            state.claims.count("art")
    finally:
        os.kill(servers.index.pid, signal.SIGCONT)
    assert state.claims.count("art") == 0


def test_a_server_that_takes_no_writes_is_unavailable_until_it_does(redis: Client) -> None:
    state = State.of(redis)
    for server in servers_of(redis):
        server.config_set("maxmemory", 1)
    try:
        with pytest.raises(IndexUnavailable, match="takes no writes"):
            state.claims.claim("art", "a", [1])
        assert state.claims.count("art") == 0
    finally:
        for server in servers_of(redis):
            server.config_set("maxmemory", 0)
    assert state.claims.claim("art", "a", [1]) == ["a"]


@pytest.mark.parametrize("password", [":wrong@", ""])
def test_a_wrong_password_is_told_as_that(servers: Servers, password: str) -> None:
    url = f"redis://{password}{servers.settings.index_url.get_secret_value().rpartition('@')[2]}"
    with pytest.raises(IndexUnavailable, match="check the password"):
        State.of(connect(url, retries=0)).claims.count("art")


def test_an_error_of_a_command_is_not_taken_for_a_server_that_is_away(redis: Client) -> None:
    redis.set(b"b:1", "no set")
    with pytest.raises(redis_py.ResponseError):
        BucketStore(redis).add([b"b:1"], [1])


def _hold_until_killed(url: str, ready: "multiprocessing.synchronize.Event") -> None:
    with patch("shared.state.locks.LEASE_S", 3.0), State.of(connect(url)).locks.hold(LOCK):
        ready.set()
        time.sleep(600)


def test_a_lock_whose_holder_was_killed_frees_itself(url: str, redis: Client) -> None:
    fork = multiprocessing.get_context("spawn")
    ready = fork.Event()
    holder = fork.Process(target=_hold_until_killed, args=(url, ready))
    holder.start()
    assert ready.wait(PATIENCE_S)
    holder.kill()
    holder.join()
    locks = State.of(redis).locks
    assert locks.is_held(LOCK)
    with locks.hold(LOCK, wait_s=120):
        assert locks.is_held(LOCK)


def test_counts_of_a_union_are_those_of_a_plain_count(redis: Client) -> None:
    rng = np.random.default_rng(0)
    names = [b"b:%d" % place for place in rng.integers(0, 40, 3000)]
    images = (2**52 + rng.integers(0, 500, 3000)).tolist()
    buckets = BucketStore(redis)
    buckets.add(names, images)
    wanted = sorted(set(names))[:25]
    plain = Counter(image for name, image in set(zip(names, images, strict=True)) if name in wanted)
    found = buckets.candidates(wanted)
    assert dict(zip(found.ids.tolist(), found.counts.tolist(), strict=True)) == plain
