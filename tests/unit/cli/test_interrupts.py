"""Ctrl-C that comes while a request is answered counts afterwards."""

import signal
from collections.abc import Iterator

import pytest

from cli.remote.interrupts import interrupts_deferred


@pytest.fixture(autouse=True)
def _python_s_own_handler() -> Iterator[None]:
    """Let Ctrl-C raise, as it does in a terminal: a run in the background began with a signal that is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_counts_after_the_block() -> None:
    steps = []
    with interrupts_deferred() as raise_deferred:
        signal.raise_signal(signal.SIGINT)
        steps.append("answered")
    with pytest.raises(KeyboardInterrupt):
        raise_deferred()
    assert steps == ["answered"]


def test_without_one_nothing_is_raised_and_later_ones_count_at_once() -> None:
    with interrupts_deferred() as raise_deferred:
        pass
    raise_deferred()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
