"""What the maintenance worker looks after by itself, every few seconds or once a day: duties, and when each is due.

The duties run on a thread of the worker's main process. They only look and ask: the work is a task on the queue. All
maintenance workers have the thread; Redis sees to it that one of them does each duty at a time.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from shared.errors import Unavailable
from shared.messaging.task_queue import TaskQueue
from shared.state import State
from shared.storage import layout
from shared.waits import WaitLog

_log = logging.getLogger(__name__)

_TICK_S = 2.0
_REBUILD_AGAIN_S = 300.0  # a rebuild that did not mend an index is not tried again at once


class Duty(Protocol):
    """Something to look after: its name, and how many seconds lie between two looks."""

    name: str
    every_s: float

    def run(self) -> None:
        """Look, and ask for what is to be done.

        Raises:
            Unavailable: A server is away; the duty is done at the next tick.
        """


class SuspectRebuild:
    """Has indexes rebuilt of which the query service has found that Redis lost a part."""

    name, every_s = "suspects", _TICK_S

    def __init__(self, state: State, queue: TaskQueue) -> None:
        self._state, self._queue = state, queue

    def run(self) -> None:
        """Ask for the rebuild of each suspect index, once in five minutes."""
        for set_name, reason in self._state.suspects.all().items():
            collection = layout.collection_of(set_name)
            if self._state.locks.once(f"rebuild-suspect:{set_name}", seconds=_REBUILD_AGAIN_S):
                _log.warning("%s is rebuilt: %s", collection, reason)
                self._queue.rebuild(collection=collection)


class VerificationDuty:
    """Has the system verified once a day."""

    name, every_s = "verify", 24 * 3600.0

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    def run(self) -> None:
        """Ask for a verification."""
        self._queue.verify()


class Schedule:
    """Does each duty when it is due."""

    def __init__(self, state: State, duties: Sequence[Duty]) -> None:
        self._state, self._duties = state, duties
        self._wait_log = WaitLog(_log, "the duties of the maintenance worker")

    def start(self) -> None:
        """Begin, on a thread that ends with the process."""
        threading.Thread(target=self._run, name="duties", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(_TICK_S):
            try:
                self.run_due()
                self._wait_log.goes_on()
            except Unavailable as error:
                self._wait_log.waits(error)
            except Exception as error:
                self._wait_log.waits(error, trace=True)

    def run_due(self) -> None:
        """Do what is due now and no other worker does.

        Raises:
            Unavailable: A server is away.
        """
        for duty in self._duties:
            if self._state.locks.once(f"duty:{duty.name}", seconds=duty.every_s):
                duty.run()
