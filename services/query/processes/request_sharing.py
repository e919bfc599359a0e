"""Request sharing: a process that is busy hands a request that came to it to the least busy of the others.

The kernel spreads connections over the processes of a query service, not requests, and a client has one connection.
"""

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from services.query.processes.process_group import ProcessGroup, address_of
from shared.rpc.query.client import MAX_MESSAGE, NO_RETRY
from shared.rpc.tls import Options, open_channel

_OURS = "/artseek."
_BEGUN: Final = "artseek-process"  # metadata by which a process says that it works on a request
_CODES: Final = "artseek-"
_SHORT_S: Final = 0.005  # handing a request on costs half a millisecond of a core: ten times that is worth it
_RECENT: Final = 0.05  # the weight of the last request in the mean of their times
_OPTIONS: Options = [
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.enable_http_proxy", 0),
]

Answer = Callable[[bytes, Any], bytes]


class RequestCounting(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Counts on the load board what other processes have handed to this one."""

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group

    def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """Return the handler of a request, counted."""
        handler = continuation(handler_call_details)
        name: str = handler_call_details.method
        if handler is None or not name.startswith(_OURS):
            return handler
        return grpc.unary_unary_rpc_method_handler(self.answer(name, _of_bytes(handler)))

    def answer(self, method: str, here: Answer) -> Answer:  # noqa: ARG002 -- for those who hand requests on
        """Return what answers a request in this process."""

        def answered(request: bytes, context: Any) -> bytes:
            context.send_initial_metadata(((_BEGUN, str(self._group.number)),))
            with self._group.board.working(self._group.number):
                return here(request, context)

        return answered


class _MeanTime:
    """The mean processor time of requests of a method of late, in seconds; endless before the first."""

    def __init__(self) -> None:
        self.seconds = math.inf

    def note(self, seconds: float) -> None:
        """Take a request into account."""
        before = self.seconds if math.isfinite(self.seconds) else seconds
        self.seconds = before + _RECENT * (seconds - before)


class RequestSharing(RequestCounting):
    """Hands requests of clients to the least busy process; this one answers them if it is no busier than the others.

    Requests that are soon answered it keeps until it is busier by two: it costs less to wait for one of them than to
    hand one on, and no process is without work for long.
    """

    def __init__(self, group: ProcessGroup) -> None:
        super().__init__(group)
        others = [number for number in range(group.count) if number != group.number]
        self._channels = {number: open_channel(address_of(group.folder, number), None, _OPTIONS) for number in others}
        self._handed = dict.fromkeys(others, 0)  # requests that are with each of the others, at least
        self._lock = threading.Lock()
        self._mean_times: dict[str, _MeanTime] = {}
        self._calls: dict[tuple[int, str], Callable[..., Any]] = {}

    def answer(self, method: str, here: Answer) -> Answer:
        """Return what answers a request in this process or has another answer it."""
        board, own = self._group.board, self._group.number
        # A handler is made for each request: what is kept of a method is not in it.
        mean_time = self._mean_times.setdefault(method, _MeanTime())

        def answered(request: bytes, context: Any) -> bytes:
            if (other := self._less_busy(by=1 if mean_time.seconds > _SHORT_S else 2)) is not None:
                try:
                    handed: bytes = self._call(other, method)(request, timeout=context.time_remaining())
                    return handed
                except grpc.RpcError as error:
                    if _has_begun(error):
                        _abort(context, error)
                finally:
                    self._give_back(other)
            began = time.thread_time()  # while it waits for other parts, others of this process go on
            with board.working(own):  # here, also if the other one has died, or is stopping
                answer = here(request, context)
            mean_time.note(time.thread_time() - began)
            return answer

        return answered

    def _call(self, other: int, method: str) -> Callable[..., Any]:
        """Return what calls a method of another process."""
        call = self._calls.get((other, method))
        if call is None:
            call = self._calls[other, method] = self._channels[other].unary_unary(method, None, None)
        return call

    def close(self) -> None:
        """Close the connections to the other processes."""
        for channel in self._channels.values():
            channel.close()

    def _less_busy(self, *, by: int) -> int | None:
        """Return the process that is less busy than this one by so many requests, and count one as its; None: none."""
        board, own = self._group.board, self._group.number
        least = (board.load(own) or 0) - by + 1
        if least <= 0:
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


def _of_bytes(handler: Any) -> Answer:
    """Return what a handler does, from the bytes of the request to those of the answer."""

    def answered(request: bytes, context: Any) -> bytes:
        answer: bytes = handler.response_serializer(handler.unary_unary(handler.request_deserializer(request), context))
        return answer

    return answered


def _has_begun(error: Any) -> bool:
    """Return whether the other process has worked on the request that failed, or no time is left to work on it."""
    metadata = error.initial_metadata() or ()
    return error.code() == grpc.StatusCode.DEADLINE_EXCEEDED or any(key == _BEGUN for key, _ in metadata)


def _abort(context: Any, error: Any) -> None:
    kept = [(key, value) for key, value in error.trailing_metadata() or () if key.startswith(_CODES)]
    context.set_trailing_metadata((*kept, NO_RETRY))
    context.abort(error.code(), error.details())
