"""A wait for a server: a line when it begins and one when it ends, whatever happens in between."""

import logging

import pytest

from shared import waits
from shared.errors import IndexUnavailable, StoreUnavailable
from shared.waits import WaitLog


@pytest.fixture
def wait_log(caplog: pytest.LogCaptureFixture) -> WaitLog:
    caplog.set_level(logging.INFO)
    return WaitLog(logging.getLogger("waiting"), "the task")


def test_a_wait_has_a_line_at_its_beginning_and_one_at_its_end(
    wait_log: WaitLog, caplog: pytest.LogCaptureFixture
) -> None:
    wait_log.goes_on()
    for attempt in range(1000):
        wait_log.waits(StoreUnavailable(f"no answer, attempt {attempt}"))
    wait_log.goes_on()
    wait_log.goes_on()
    assert caplog.messages == ["the task waits: no answer, attempt 0", "the task goes on after 0 s"]


def test_a_second_server_that_fails_meanwhile_is_named(wait_log: WaitLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        wait_log.waits(StoreUnavailable("the store"))
        wait_log.waits(IndexUnavailable("the index"))
    assert caplog.messages == ["the task waits: the store", "the task waits: the index"]


def test_tasks_of_which_some_wait_and_others_do_not_do_not_fill_the_log(
    wait_log: WaitLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(100):
        wait_log.waits(StoreUnavailable("the store"))
        wait_log.goes_on()
    assert len(caplog.messages) == 2
    monkeypatch.setattr(waits, "_AGAIN_S", 0.0)
    wait_log.waits(StoreUnavailable("the store"))
    wait_log.goes_on()
    assert len(caplog.messages) == 4
