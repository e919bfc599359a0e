"""The serving client without a server: what it imports, what it checks, and what it makes of failures."""

import socket
import subprocess
import sys

import grpc
import numpy as np
import pytest

from shared.errors import Invalid, NotFound, Unavailable
from shared.rpc.serving.client import ServingClient
from shared.rpc.serving.errors import ModelNotFound, ModelRefused, ModelUnavailable, ServingError, from_grpc
from tests.support.paths import ROOT


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_needs_no_tensorflow() -> None:
    code = (
        "import sys, shared.rpc.serving.client; print({'tensorflow', 'tensorflow_serving', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_making_a_client_opens_no_channel() -> None:
    """A process may fork between making a client and using it: gRPC must not have started threads before."""
    code = (
        "import threading; from shared.rpc.serving.client import ServingClient; "
        "ServingClient('127.0.0.1:1', 'm'); print(len(__import__('os').listdir('/proc/self/task')))"
    )
    plain = "import threading, numpy; print(len(__import__('os').listdir('/proc/self/task')))"
    counts = [
        subprocess.run([sys.executable, "-c", c], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for c in (code, plain)
    ]
    assert counts[0] == counts[1]


def test_version_and_label_exclude_each_other() -> None:
    with pytest.raises(Invalid, match="version 1 and label 'stable'"):
        ServingClient("127.0.0.1:1", "m", version=1, label="stable")
    with pytest.raises(Invalid, match="max_batch is 0"):
        ServingClient("127.0.0.1:1", "m", max_batch=0)


def test_a_server_that_is_not_there_is_unavailable(unused_port: int) -> None:
    with ServingClient(f"127.0.0.1:{unused_port}", "m") as client:
        with pytest.raises(ModelUnavailable, match=rf"model m at 127\.0\.0\.1:{unused_port}: UNAVAILABLE"):
            client.embed(np.zeros((1, 8, 8, 3), np.uint8))
        with pytest.raises(ModelUnavailable):
            client.status()


class _Failure(grpc.RpcError):
    """What gRPC raises, with a code of our choice."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "why"


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_each_status_is_retryable_or_not(code: grpc.StatusCode) -> None:
    retryable = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"}
    error = from_grpc(_Failure(code), "host:1", "m")
    assert isinstance(error, ServingError)
    assert isinstance(error, Unavailable) == isinstance(error, ModelUnavailable) == (code.name in retryable)
    assert isinstance(error, NotFound) == isinstance(error, ModelNotFound) == (code.name == "NOT_FOUND")
    assert isinstance(error, Invalid) == isinstance(error, ModelRefused)
    assert str(error) == f"model m at host:1: {code.name}: why"


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED"])
def test_a_refusal_is_not_worth_repeating(code: str) -> None:
    assert isinstance(from_grpc(_Failure(grpc.StatusCode[code]), "host:1", "m"), ModelRefused)
