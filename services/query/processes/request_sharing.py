"""Request sharing: a process that is busy hands a request that came to it to the least busy of the others.

The kernel spreads connections over the processes of a query service, not requests, and a client has one connection.
"""

import threading
from collections.abc import Callable
from typing import Any, Final

import grpc

from services.query.processes.process_group import ProcessGroup, address_of
from shared.rpc.query.client import MAX_MESSAGE, NO_RETRY
from shared.rpc.tls import Options, open_channel

_OURS = "/artseek."
_BEGUN: Final = "artseek-process"  # metadata by which a process says that it works on a request
_CODES: Final = "artseek-"
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


class RequestSharing(RequestCounting):
    """Hands requests of clients to the least busy process; this one answers them if it is no busier than the others."""

    def __init__(self, group: ProcessGroup) -> None:
        super().__init__(group)
        others = [number for number in range(group.count) if number != group.number]
        self._channels = {number: open_channel(address_of(group.folder, number), None, _OPTIONS) for number in others}
        self._handed = dict.fromkeys(others, 0)  # requests that are with each of the others, at least
        self._lock = threading.Lock()

    def answer(self, method: str, here: Answer) -> Answer:
        """Return what answers a request in this process or has another answer it."""
        board, own = self._group.board, self._group.number
        methods = {number: channel.unary_unary(method, None, None) for number, channel in self._channels.items()}

        def answered(request: bytes, context: Any) -> bytes:
            if (other := self._less_busy()) is not None:
                try:
                    answer: bytes = methods[other](request, timeout=context.time_remaining())
                    return answer
                except grpc.RpcError as error:
                    if _has_begun(error):
                        _abort(context, error)
                finally:
                    self._give_back(other)
            with board.working(own):  # the other one has died, or is stopping
                return here(request, context)

        return answered

    def close(self) -> None:
        """Close the connections to the other processes."""
        for channel in self._channels.values():
            channel.close()

    def _less_busy(self) -> int | None:
        """Return the process that is to answer, and count the request as its; None: this one."""
        board, own = self._group.board, self._group.number
        least = board.load(own)
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
