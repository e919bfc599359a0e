"""Locks on a real server and on a real cluster."""

import multiprocessing
import threading
import time
from unittest.mock import patch

import pytest

from shared.errors import IndexUnavailable, Locked
from shared.state import Client, State, connect
from shared.state.locks import Lock
from tests.support.eventually import PATIENCE_S
from tests.support.servers import Servers

LOCK = Lock("x", "x is being tested")


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


def test_a_holder_that_was_stopped_for_too_long_is_told_and_what_fails_then_says_nothing_of_the_task(
    redis: Client,
) -> None:
    locks, others = State.of(redis).locks, State.of(redis).locks
    with pytest.raises(RuntimeError, match="does not hold it"):
        locks.check(LOCK)

    def work() -> None:
        with locks.hold(LOCK):
            locks.check(LOCK)
            redis.delete(f"lock:{LOCK.name}")  # as it runs out
            with pytest.raises(Locked, match="lost its lock"):
                locks.check(LOCK)
            with others.hold(LOCK):
                others.check(LOCK)
                with pytest.raises(Locked, match="lost its lock"):
                    locks.check(LOCK)
                raise KeyError

    with pytest.raises(Locked, match="lost its lock") as caught:
        work()
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(RuntimeError):
        locks.check(LOCK)


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


def test_a_lock_that_is_lost_with_the_server_does_not_hide_that_the_server_is_away(servers: Servers) -> None:
    state = State.of(connect(servers.settings.index_url.get_secret_value(), retries=0))
    lock = state.locks.hold(LOCK)
    lock.__enter__()
    servers.index.kill()
    with pytest.raises(IndexUnavailable):
        lock.__exit__(None, None, None)
    servers.index.start()


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
