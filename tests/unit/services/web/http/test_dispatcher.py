"""Threads that take turns: every request is worked on, none for too long in vain, and one thread is woken for one."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from services.web.http.dispatcher import FairDispatcher
from tests.support.eventually import eventually


@dataclass
class Job:
    """A request that waits for a gate, and notes what happens to it."""

    turn: str
    log: "Log"
    gate: threading.Event | None = None
    urgent: bool = False
    fails: bool = False
    cancelled: bool = False

    def service(self) -> None:
        self.log.begin(self.turn)
        if self.gate is not None:
            self.gate.wait()
        self.log.end(self.turn)
        if self.fails:
            raise ValueError("a fault")

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Log:
    """Which requests were begun, and how many of a client at a time at most."""

    begun: list[str] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, turn: str) -> None:
        with self.lock:
            self.begun.append(turn)
            self.running[turn] += 1
            self.most[turn] = max(self.most[turn], self.running[turn])

    def end(self, turn: str) -> None:
        with self.lock:
            self.running[turn] -= 1
            self.ended += 1


class CountingCondition(threading.Condition):
    """Counts how often a thread is woken."""

    woken = 0

    def wait(self, timeout: float | None = None) -> bool:
        found = super().wait(timeout)
        type(self).woken += 1  # the lock is held again
        return found


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def dispatcher() -> Iterator[FairDispatcher]:
    made = FairDispatcher(4, per_client=2)
    yield made
    made.shutdown()


def test_all_are_worked_on_and_nobody_has_more_threads_than_allowed(dispatcher: FairDispatcher, log: Log) -> None:
    clients = [f"client-{number}" for number in range(7)]

    def send(client: str) -> None:
        for number in range(100):
            dispatcher.add_task(Job(client, log, fails=number % 10 == 0))

    senders = [threading.Thread(target=send, args=(client,)) for client in clients]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    eventually(lambda: log.ended == 700)
    assert Counter(log.begun) == dict.fromkeys(clients, 100)
    assert max(log.most.values()) <= 2


def test_who_has_all_their_threads_is_served_when_one_gets_free(dispatcher: FairDispatcher, log: Log) -> None:
    gates = [threading.Event() for _ in range(3)]
    for gate in gates:
        dispatcher.add_task(Job("busy", log, gate))
    eventually(lambda: log.begun == ["busy", "busy"])
    dispatcher.add_task(Job("other", log))
    eventually(lambda: log.ended == 1)
    assert log.begun.count("busy") == 2
    gates[0].set()
    eventually(lambda: log.begun.count("busy") == 3)
    for gate in gates:
        gate.set()


def test_one_thread_is_woken_for_a_request(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = SimpleNamespace(**vars(threading) | {"Condition": CountingCondition})
    monkeypatch.setattr("services.web.http.dispatcher.threading", counted)
    dispatcher = FairDispatcher(32, per_client=32)
    try:
        for number in range(20):
            dispatcher.add_task(Job("client", log))
            eventually(lambda number=number: log.ended == number + 1, interval_s=0.001)  # type: ignore[misc]
        assert CountingCondition.woken <= 20
    finally:
        dispatcher.shutdown()


def test_the_urgent_is_done_while_all_threads_are_busy(dispatcher: FairDispatcher, log: Log) -> None:
    gate = threading.Event()
    for client in ("a", "a", "b", "b", "c"):
        dispatcher.add_task(Job(client, log, gate))
    eventually(lambda: len(log.begun) == 4)
    dispatcher.add_task(Job("c", log, urgent=True))
    eventually(lambda: log.ended == 1)
    gate.set()
    eventually(lambda: log.ended == 6)


def test_what_waits_at_a_stop_is_given_up(log: Log) -> None:
    dispatcher, gate = FairDispatcher(1, per_client=1), threading.Event()
    held, waiting = Job("a", log, gate), Job("a", log)
    dispatcher.add_task(held)
    eventually(lambda: log.begun)
    dispatcher.add_task(waiting)
    assert dispatcher.shutdown(timeout=0)
    gate.set()
    eventually(lambda: log.ended == 1)
    assert (held.cancelled, waiting.cancelled) == (False, True)
