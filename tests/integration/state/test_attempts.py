"""Attempts at tasks on a real server and on a real cluster."""

from unittest.mock import Mock

import pytest

from shared.errors import Fenced, Unavailable
from shared.state import Client, State
from shared.state.attempts import Attempt
from tests.support.eventually import eventually


def told(attempt: Attempt) -> tuple[int, str | None, bool]:
    return attempt.deaths, attempt.died_at, attempt.killed


def test_attempts_tell_what_a_task_died_at(redis: Client) -> None:
    attempts = State.of(redis).attempts
    first = attempts.begin("task", delivery="1")
    assert told(first) == (0, None, False)
    first.note_item("first")
    first.note_item("second")
    second = attempts.begin("task", delivery="2", lost="1")
    assert told(second) == (1, "second", True)
    third = attempts.begin("task", delivery="3", lost="2")
    assert told(third) == (2, None, True)  # it died before it was at anything
    assert [third.strike(item) for item in ("second", "second", "x")] == [1, 2, 1]
    third.note_item("third")
    third.clear_item()
    third.note_item("fourth")
    third.leave()
    fourth = attempts.begin("task", delivery="4", lost="1")
    assert told(fourth) == (3, "fourth", False)
    fourth.pause()
    fifth = attempts.begin("task")
    assert told(fifth) == (0, None, False)
    assert fifth.strike("second") == 3
    fifth.end()
    sixth = attempts.begin("task")
    assert told(sixth) == (0, None, False)
    assert sixth.strike("second") == 1
    assert 0 < redis.ttl("attempt:task") <= 24 * 3600


def test_an_attempt_that_is_alive_is_alone_and_one_whose_lease_ran_out_is_fenced_off(
    redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = State.of(redis).attempts
    with attempts.hold("task", delivery="1") as alive, pytest.raises(Unavailable, match="another worker is at the"):
        attempts.begin("task", delivery="2", lost="0")
    monkeypatch.setattr("shared.state.attempts.LEASE_S", 0.001)
    stopped = attempts.begin("task", delivery="3")
    stopped.check()
    stopped.note_item("x")
    other = eventually(lambda: attempts.begin("task", delivery="4"), trying=Unavailable, interval_s=0.01)
    assert told(other) == (2, "x", False)
    for late in (alive, stopped):
        assert not late.renew()
        for write in (late.check, late.clear_item, lambda late=late: late.note_item("y")):
            with pytest.raises(Fenced, match="begun the task 'task' anew"):
                write()
        for word in (late.pause, late.leave, late.end):
            word()
    other.check()
    assert other.renew()
    other.end()
    with pytest.raises(Fenced):
        other.check()


def test_an_attempt_begins_once_though_the_answer_is_asked_for_again(redis: Client) -> None:
    attempts = State.of(redis).attempts
    attempts.begin("task", delivery="1").note_item("x")
    twice = Mock(wraps=redis)
    twice.eval.side_effect = lambda *values: (redis.eval(*values), redis.eval(*values))[1]
    assert told(State.of(twice).attempts.begin("task", delivery="2", lost="1")) == (1, "x", True)


def test_images_are_set_aside_for_one_version(redis: Client) -> None:
    state = State.of(redis)
    state.attempts.set_aside("1.0", "ab")
    assert state.attempts.are_set_aside("1.0", ["cd", "ab"]) == [False, True]
    assert state.attempts.are_set_aside("1.1", ["ab"]) == [False]
    assert state.attempts.are_set_aside("1.0", []) == []
