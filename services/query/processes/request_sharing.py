"""Request sharing: a process that is busy hands a request that came to it to the least busy of the others.

The kernel spreads connections over the processes of a query service, not requests, and a client has one connection.
"""

import logging
import threading
from typing import Any, NoReturn

import grpc

from services.query.processes.handover import Answer, OtherProcess, Refused
from services.query.processes.process_group import ProcessGroup, socket_path
from shared.rpc.query.client import NO_RETRY

_log = logging.getLogger(__name__)

_CODES = "artseek-"


def counted(group: ProcessGroup, answer: Answer) -> Answer:
    """Return what answers requests that others hand to this process, counted on the load board."""

    def answered(request: bytes, context: Any) -> bytes:
        with group.board.working(group.number):
            return answer(request, context)

    return answered


class RequestSharing:
    """Hands requests of clients to the least busy process; this one answers them if it is no busier than the others."""

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group
        numbers = [number for number in range(group.count) if number != group.number]
        self._others = {number: OtherProcess(socket_path(group.folder, number)) for number in numbers}
        self._handed = dict.fromkeys(numbers, 0)  # requests that are with each of the others, at least
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections to the other processes."""
        for other in self._others.values():
            other.close()

    def shared(self, method: str, answer: Answer) -> Answer:
        """Return what answers requests of a method in this process, or has another one answer them."""
        board, own = self._group.board, self._group.number

        def answered(request: bytes, context: Any) -> bytes:
            if (other := self._less_busy()) is not None:
                try:
                    return self._others[other].answer(method, request, context.time_remaining())
                except Refused as refusal:
                    _abort(context, refusal)
                except TimeoutError:
                    _abort(context, Refused(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time"))
                except OSError as error:  # it has died, or is stopping: the request is answered here
                    _log.debug("process %d does not answer what was handed to it: %s", other, error)
                finally:
                    self._give_back(other)
            with board.working(own):
                return answer(request, context)

        return answered

    def _less_busy(self) -> int | None:
        """Return the least busy process that is less busy than this one, and count a request as its; None: none is."""
        board = self._group.board
        least = board.load(self._group.number) or 0
        if not least:
            return None
        found = None
        with self._lock:
            for other, handed in self._handed.items():
                if (load := board.load(other)) is not None and max(load, handed) < least:
                    found, least = other, max(load, handed)
            if found is not None:
                self._handed[found] += 1
        return found

    def _give_back(self, other: int) -> None:
        with self._lock:
            self._handed[other] -= 1


def _abort(context: Any, refusal: Refused) -> NoReturn:
    kept = [(key, value) for key, value in refusal.metadata if key.startswith(_CODES)]
    context.set_trailing_metadata((*kept, NO_RETRY))
    context.abort(refusal.code, refusal.details)
    raise AssertionError("abort raises")
