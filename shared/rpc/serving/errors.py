"""What a call to a model server can end with.

ServingError                     any failure of a call; raised itself for a failure inside the server
├── ModelUnavailable             no answer, or none in time; the same call may succeed later (also an `Unavailable`)
├── ModelNotFound                no such model, version or label is served (also a `NotFound`)
└── ModelRefused                 the server understood and will not: wrong type, shape or name (also an `Invalid`)
"""

import grpc

from shared.errors import ArtseekError, Invalid, NotFound, Unavailable


class ServingError(ArtseekError):
    """A call to the model server failed."""


class ModelUnavailable(ServingError, Unavailable):
    """The model server did not answer, or not in time; trying again later may succeed."""


class ModelNotFound(ServingError, NotFound):
    """The model server has no such model, version or label."""


class ModelRefused(ServingError, Invalid):
    """The model server refused the request as it is; sending it again does not help."""


_BY_CODE: dict[grpc.StatusCode, type[ServingError]] = {
    grpc.StatusCode.UNAVAILABLE: ModelUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: ModelUnavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ModelUnavailable,
    grpc.StatusCode.CANCELLED: ModelUnavailable,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.INVALID_ARGUMENT: ModelRefused,
    grpc.StatusCode.FAILED_PRECONDITION: ModelRefused,
    grpc.StatusCode.OUT_OF_RANGE: ModelRefused,
    grpc.StatusCode.UNIMPLEMENTED: ModelRefused,
    grpc.StatusCode.PERMISSION_DENIED: ModelRefused,
    grpc.StatusCode.UNAUTHENTICATED: ModelRefused,
}


def from_grpc(error: grpc.RpcError, target: str, model: str) -> ServingError:
    """Return the error of this module that says what a failed call of gRPC means."""
    code = error.code()
    return _BY_CODE.get(code, ServingError)(f"model {model} at {target}: {code.name}: {error.details()}")
