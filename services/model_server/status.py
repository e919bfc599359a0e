"""Failures as TensorFlow Serving reports them: a gRPC status code and a message."""

import grpc


class StatusError(Exception):
    """A call failed; its client is to see this status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def number(self) -> int:
        """The code as a number, the same in gRPC and in TensorFlow."""
        return int(self.code.value[0])


_BY_NUMBER = {int(code.value[0]): code for code in grpc.StatusCode}


def from_number(number: int, message: str) -> StatusError:
    """Return the error with this code of TensorFlow's or gRPC's."""
    return StatusError(_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN), message)


def invalid_argument(message: str) -> StatusError:
    """Return the error of a request that is wrong."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def failed_precondition(message: str) -> StatusError:
    """Return the error of a request that the server cannot serve in its present state."""
    return StatusError(grpc.StatusCode.FAILED_PRECONDITION, message)


def not_found(message: str) -> StatusError:
    """Return the error of a request for what is not there."""
    return StatusError(grpc.StatusCode.NOT_FOUND, message)
