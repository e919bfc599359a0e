"""The handlers of the query service's methods: from the bytes of a request to those of its answer.

gRPC calls them for requests of clients, and other processes of the service for those that they hand over.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.query.metrics import Metrics
from services.query.processes.handover import Answer
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.query_pb2_grpc import QueryServicer

_METHODS: Final = messages.DESCRIPTOR.services_by_name["Query"]
SERVICE: Final = _METHODS.full_name


def handlers_of(service: QueryServicer, metrics: Metrics) -> dict[str, Answer]:
    """Return what answers each method, by its full name, counted in `metrics`."""
    return {
        f"/{SERVICE}/{method.name}": _of_bytes(
            GetMessageClass(method.input_type), metrics.measured(method.name, getattr(service, method.name))
        )
        for method in _METHODS.methods
    }


def add_handlers(server: grpc.Server, handlers: Mapping[str, Answer]) -> None:
    """Have a server answer the methods by handlers."""
    by_name = {
        method.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(answer) for method, answer in handlers.items()
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, by_name)])


def _of_bytes(kind: type[Message], answer_to: Callable[[Any, Any], Any]) -> Answer:
    def answered(request: bytes, context: Any) -> bytes:
        answer: bytes = answer_to(kind.FromString(request), context).SerializeToString()
        return answer

    return answered
