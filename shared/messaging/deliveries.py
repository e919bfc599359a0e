"""Deliveries of messages: their ids, and how a task learns that the last one took its process with it.

A task whose process dies alone, while its worker lives, is known to be dead: the worker says so in a header of the
message, which goes back to the queue at once. A worker that vanishes as a whole says nothing.
"""

import re
import signal
from dataclasses import dataclass
from typing import Any, Self

from billiard.exceptions import WorkerLostError
from celery import Celery, Task
from celery.worker.request import Request

LOST = "artseek_lost"
"""Header of a message: the id of the delivery whose process died, and how."""

# Somebody asked the process to end, or it took too long by the clock, which it also does while it is stopped.
_NOT_ITS_OWN = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM}
_SIGNAL = re.compile(r"signal (\d+)")


@dataclass(frozen=True)
class Delivery:
    """A delivery of a message; `lost` is the id of an earlier one whose process died of what it did."""

    id: str = ""
    lost: str = ""

    @classmethod
    def current(cls, app: Celery) -> Self:
        """Return the delivery whose task runs in this process; an empty one if none does."""
        task = app.current_worker_task
        if task is None:
            return cls()
        lost = task.request.get(LOST) or [""]
        return cls((task.request.get("properties") or {}).get("delivery_tag") or "", lost[0])


class LeasedRequest(Request):
    """A message in the worker's main process, which sees the process of the task die."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Note in the message that its process died, before it goes back to the queue."""
        error = exc_info.exception
        error = getattr(error, "exc", error)
        if isinstance(error, WorkerLostError) and died_of_itself(str(error)):
            self.message.headers[LOST] = [self.message.delivery_tag, str(error)]
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)


class LeasedTask(Task[Any, Any]):
    """A task whose messages are leased."""

    Request = f"{__name__}:{LeasedRequest.__name__}"


def died_of_itself(said: str) -> bool:
    """Return whether a process died of what it did, by what billiard says of its exit."""
    found = _SIGNAL.search(said)
    return found is None or int(found[1]) not in _NOT_ITS_OWN
