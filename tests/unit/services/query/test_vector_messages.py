"""Vectors come out of their messages as they went in."""

import numpy as np
import pytest

from services.query.grpc_service import _vector
from shared.rpc.query import query_pb2 as messages


@pytest.mark.parametrize("count", [0, 1, 31, 32, 1280, 4095, 4096, 70_000])
def test_the_numbers_of_a_message_are_those_that_were_written(count: int) -> None:
    values = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    values[:1] = np.inf
    message = messages.Vector.FromString(messages.Vector(values=values).SerializeToString())
    found = _vector(message)
    assert found.dtype == np.float32
    assert np.array_equal(found, values)


def test_what_else_is_in_the_message_is_passed_over() -> None:
    later = messages.Vector(values=[1.0, 2.0]).SerializeToString() + messages.Image(name="x").SerializeToString()
    assert _vector(messages.Vector.FromString(later)).tolist() == [1.0, 2.0]
