"""A Redis or Valkey that is away, hangs, is restarted or refuses, and the heartbeats of workers in it."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis as redis_py

from shared.errors import IndexUnavailable
from shared.health import heartbeat
from shared.state import BucketStore, Change, Changes, Client, IndexState, Jobs, State, connect
from shared.state.connection import servers as servers_of
from shared.state.locks import Lock
from shared.state.outcomes import Outcome
from tests.support.eventually import eventually
from tests.support.servers import Servers

LOCK = Lock("x", "x is being tested")


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
    attempt = state.attempts.begin("t")
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
        attempt.check,
        lambda: attempt.note_item("x"),
        attempt.clear_item,
        lambda: attempt.strike("x"),
        attempt.renew,
        attempt.pause,
        attempt.leave,
        attempt.end,
        lambda: state.attempts.forget("t"),
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
        lambda: jobs.reported_among("j", [0]),
        lambda: jobs.get("j"),
        lambda: jobs.outcome("j"),
        lambda: jobs.add_pages("j", 5, 3),
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
    with pytest.raises(IndexUnavailable, match=r"check .*password.*ARTSEEK_INDEX_URL"):
        State.of(connect(url, retries=0)).claims.count("art")


def test_an_error_of_a_command_is_not_taken_for_a_server_that_is_away(redis: Client) -> None:
    redis.set(b"b:1", "no set")
    with pytest.raises(redis_py.ResponseError):
        BucketStore(redis).add([b"b:1"], [1])
