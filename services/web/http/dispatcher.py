"""Threads that work on requests: clients take turns, and whether the service lives is always told."""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_log = logging.getLogger(__name__)


class Work(Protocol):
    """A request that is whole."""

    @property
    def turn(self) -> str:
        """Whose request it is; requests of one client wait for each other."""
        ...

    @property
    def urgent(self) -> bool:
        """Whether a thread of its own is kept for such requests, of which each is done at once."""
        ...

    def service(self) -> None:
        """Do the work."""
        ...

    def cancel(self) -> None:
        """Give it up."""
        ...


class FairDispatcher:
    """Some threads, one more for what is urgent, and some that stand in for those that wait for a client to read.

    Of the clients that wait, each gets a thread in turn, however many requests the others have. One client has at most
    `per_client` threads at a time, so that a free one is left for the next. A thread that waits for a client to read
    counts neither among its threads nor among those that work.
    """

    def __init__(self, threads: int, *, per_client: int, stand_ins: int = 0) -> None:
        self._at_once, self._per_client = threads, per_client
        self._lock = threading.Lock()
        self._free, self._urgent_free = threading.Condition(self._lock), threading.Condition(self._lock)
        self._waiting: OrderedDict[str, deque[Work]] = OrderedDict()
        self._urgent: deque[Work] = deque()
        self._running: dict[str, int] = {}
        self._mine = threading.local()  # whom the thread works for
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, args=(number == 0,), name=f"request-{number}", daemon=True)
            for number in range(1 + threads + stand_ins)
        ]
        for thread in self._threads:
            thread.start()

    def add_task(self, task: Work) -> None:
        """Have a request worked on."""
        with self._lock:
            if task.urgent:
                self._urgent.append(task)
                self._urgent_free.notify()
            else:
                turn = task.turn
                self._waiting.setdefault(turn, deque()).append(task)
                # One request is one thread's work. Of a client with all its threads, it is taken when one gets free.
                if self._may_have_another(turn):
                    self._free.notify()

    @contextmanager
    def waiting_for_client(self) -> Iterator[None]:
        """Let another thread take the place of the one that calls, which waits for its client during the block.

        Afterwards it goes on at once, beside that other: a client that reads waits for nobody.
        """
        turn = self._turn_of_mine()
        if turn is None:  # the thread for what is urgent, or one that is none of these
            yield
            return
        with self._lock:
            self._give_back(turn)
            if any(map(self._may_have_another, self._waiting)):
                self._free.notify()
        try:
            yield
        finally:
            with self._lock:
                self._note_running(turn)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:  # noqa: FBT001, FBT002 -- as waitress
        """Stop the threads, which finish what they do if they can in time; what waits is given up."""
        with self._lock:
            self._stopped = True
            waiting = [*self._urgent, *(task for lane in self._waiting.values() for task in lane)]
            self._urgent.clear()
            self._waiting.clear()
            self._free.notify_all()
            self._urgent_free.notify_all()
        for task in waiting if cancel_pending else ():
            task.cancel()
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return bool(waiting)

    def _work(self, urgent: bool) -> None:  # noqa: FBT001
        wait = self._wait_for_urgent if urgent else self._wait
        while (task := wait()) is not None:
            try:
                task.service()
            except Exception:
                _log.exception("a request could not be worked on")

    def _wait_for_urgent(self) -> Work | None:
        """Return the next urgent request; None if the thread is to stop."""
        with self._lock:
            while not self._stopped:
                if self._urgent:
                    return self._urgent.popleft()
                self._urgent_free.wait()
            return None

    def _wait(self) -> Work | None:
        """Return the next request for a thread, which has ended the last one; None if it is to stop.

        No other thread has to be woken for the place that gets free: this one takes what may be begun now.
        """
        with self._lock:
            if (done := self._turn_of_mine()) is not None:
                self._mine.turn = None
                self._give_back(done)
            while not self._stopped:
                turn = next(filter(self._may_have_another, self._waiting), None)  # who waits longest for a turn
                if turn is not None:
                    return self._take(turn)
                self._free.wait()
            return None

    def _may_have_another(self, turn: str) -> bool:
        """Return whether there is a thread for a client, who has not all that it may have."""
        return sum(self._running.values()) < self._at_once and self._running.get(turn, 0) < self._per_client

    def _give_back(self, turn: str) -> None:
        self._running[turn] -= 1
        if not self._running[turn]:
            del self._running[turn]

    def _take(self, turn: str) -> Work:
        lane = self._waiting[turn]
        task = lane.popleft()
        if lane:
            self._waiting.move_to_end(turn)
        else:
            del self._waiting[turn]
        self._note_running(turn)
        self._mine.turn = turn
        return task

    def _turn_of_mine(self) -> str | None:
        """Return for whom the thread that calls has begun to work; the connection may have another client by now."""
        return getattr(self._mine, "turn", None)

    def _note_running(self, turn: str) -> None:
        self._running[turn] = self._running.get(turn, 0) + 1
